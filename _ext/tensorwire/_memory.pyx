"""Memory that messages live in: Chunk owns a block, Held borrows one.

The first line of a class's docstring, up to the dashes, is what inspect.signature reads.

Neither class is seen by the cycle collector: a holder of a Py_buffer that it could clear would lose its export, and a
Chunk its budget. The pool below is guarded by the interpreter lock.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uintptr_t
from libc.stdlib cimport free
from libc.string cimport memmove
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from tensorwire._c cimport (
    MADV_HUGEPAGE, MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_READ, PROT_WRITE, madvise, mmap, munmap,
    posix_memalign,
)
from tensorwire._budget cimport Budget

cdef enum:
    ALIGN = 64                  # a cache line; what TensorFlow, oneDNN and ONNX Runtime take without a copy
    SMALL = 1 << 16             # below, malloc's own caches are as warm as a pool could be
    SMALL_STEP = 1 << 16
    HUGE_PAGE = 1 << 21
    POOL_SLOTS = 64

cdef struct Block:
    uint8_t *data
    size_t capacity
    unlock_pages unlock
    double since                # when it was given back

cdef Block[POOL_SLOTS] pool     # oldest first
cdef int pool_count = 0
cdef size_t pool_bytes = 0
cdef size_t pool_cap = 256 << 20

cdef lock_pages lock_function = NULL
cdef unlock_pages unlock_function = NULL

cdef Py_ssize_t live_chunks = 0, live_bytes = 0, reused = 0, mapped = 0, holds = 0
cdef Py_ssize_t locked_bytes = 0, lock_failures = 0, lock_error = 0


cdef size_t capacity_for(size_t n) noexcept nogil:
    cdef size_t step = 1
    if n >= HUGE_PAGE:
        step = HUGE_PAGE
    elif n >= SMALL:
        step = SMALL_STEP
    return (n + step - 1) // step * step


cdef uint8_t *map_huge(size_t capacity) noexcept nogil:
    """A private mapping on a huge-page boundary: map one page more, give back what sticks out."""
    cdef void *raw = mmap(NULL, capacity + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if raw == MAP_FAILED:
        return NULL
    cdef uintptr_t start = <uintptr_t>raw
    cdef uintptr_t data = (start + HUGE_PAGE - 1) & ~<uintptr_t>(HUGE_PAGE - 1)
    if data != start:
        munmap(raw, data - start)
    if data - start != HUGE_PAGE:
        munmap(<void *>(data + capacity), HUGE_PAGE - (data - start))
    madvise(<void *>data, capacity, MADV_HUGEPAGE)
    return <uint8_t *>data


cdef uint8_t *new_block(size_t capacity) noexcept nogil:
    cdef void *data = NULL
    if capacity >= HUGE_PAGE:
        return map_huge(capacity)
    if posix_memalign(&data, ALIGN, capacity if capacity else 1) != 0:
        return NULL
    return <uint8_t *>data


cdef unlock_pages lock_block(uint8_t *data, size_t capacity) noexcept:
    """Page-lock a mapped block if that is asked for; returns what unlocks it, NULL when it stays as it was."""
    global locked_bytes, lock_failures, lock_error
    cdef lock_pages lock = lock_function
    cdef unlock_pages unlock = unlock_function
    cdef int error
    if lock == NULL or capacity < HUGE_PAGE:
        return NULL
    with nogil:  # the driver brings every page in, which takes as long as writing them
        error = lock(data, capacity, 0)
    if error:
        lock_failures += 1
        lock_error = error
        return NULL
    locked_bytes += capacity
    return unlock


cdef void free_block(uint8_t *data, size_t capacity, unlock_pages unlock) noexcept:
    global locked_bytes, lock_failures, lock_error
    cdef int error
    if capacity < HUGE_PAGE:
        free(data)
        return
    if unlock != NULL:
        error = unlock(data)
        if error:
            # A mapping that the driver still knows is kept for good: it would take a later one at the same address for
            # this one, and copy from pages that are gone.
            lock_failures += 1
            lock_error = error
            return
        locked_bytes -= capacity
    munmap(data, capacity)


cdef double monotonic() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cdef void pool_remove(int i) noexcept:
    global pool_count, pool_bytes
    pool_bytes -= pool[i].capacity
    pool_count -= 1
    memmove(&pool[i], &pool[i + 1], (pool_count - i) * sizeof(Block))


cdef uint8_t *pool_take(size_t need, size_t *capacity, unlock_pages *unlock) noexcept:
    """The smallest waiting block that holds `need` without wasting more than an eighth."""
    cdef int i, best = -1
    cdef size_t most = need + need // 8
    for i in range(pool_count):
        if need <= pool[i].capacity <= most and (best < 0 or pool[i].capacity < pool[best].capacity):
            best = i
    if best < 0:
        return NULL
    cdef uint8_t *data = pool[best].data
    capacity[0] = pool[best].capacity
    unlock[0] = pool[best].unlock
    pool_remove(best)
    return data


cdef void pool_evict(size_t room) noexcept:
    """Free the oldest blocks until at most `room` bytes wait."""
    cdef Block oldest
    while pool_count and pool_bytes > room:
        oldest = pool[0]
        pool_remove(0)
        free_block(oldest.data, oldest.capacity, oldest.unlock)


cdef void pool_give(uint8_t *data, size_t capacity, unlock_pages unlock) noexcept:
    global pool_count, pool_bytes
    if capacity > pool_cap:
        free_block(data, capacity, unlock)
        return
    pool_evict(pool_cap - capacity)
    while pool_count == POOL_SLOTS:  # while: what unlocks may let other threads in
        pool_evict(pool_bytes - 1)
    pool[pool_count].data = data
    pool[pool_count].capacity = capacity
    pool[pool_count].unlock = unlock
    pool[pool_count].since = monotonic()
    pool_count += 1
    pool_bytes += capacity


@cython.final
@cython.no_gc
cdef class Chunk:
    """Chunk(nbytes)\n--\n\nOne writable 64-byte-aligned block of exactly ``nbytes`` bytes; contents undefined until written.

    Supports the buffer protocol (flat, unsigned bytes, writable view). From 2 MiB up the memory is a private
    mapping on a 2 MiB boundary with huge pages requested. Freed blocks go back to a pool and are handed out warm.
    Raises ValueError for a negative size, MemoryError when the system has no more.
    """

    def __cinit__(self, Py_ssize_t nbytes):
        global live_chunks, live_bytes, reused, mapped
        if nbytes < 0:
            raise ValueError(f"a Chunk's size is 0 or more bytes, not {nbytes}")
        cdef size_t capacity = capacity_for(nbytes)
        if capacity >= SMALL:
            self.data = pool_take(capacity, &capacity, &self.unlock)
            reused += self.data != NULL
        if self.data == NULL:
            self.data = new_block(capacity)
            if self.data == NULL:
                raise MemoryError(f"no memory for a Chunk of {nbytes} bytes")
            mapped += capacity >= HUGE_PAGE
        if self.unlock == NULL:
            self.unlock = lock_block(self.data, capacity)
        self.capacity = capacity
        self.nbytes = nbytes
        live_chunks += 1
        live_bytes += nbytes

    def __dealloc__(self):
        global live_chunks, live_bytes
        if self.data == NULL:
            return
        live_chunks -= 1
        live_bytes -= self.nbytes
        if self.budget is not None:
            self.budget.credit(self.nbytes)
        if self.capacity >= SMALL:
            pool_give(self.data, self.capacity, self.unlock)
        else:
            free(self.data)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.data, self.nbytes, 0, flags)

    def __len__(self):
        return self.nbytes

    @property
    def address(self):
        return <uintptr_t>self.data

    def __repr__(self):
        return f"<Chunk of {self.nbytes:,} bytes>"


cpdef Chunk budgeted(Py_ssize_t nbytes, Budget budget):
    """A Chunk whose bytes count in ``budget`` until it is gone; None when they are not there now.

    Raises as Chunk does.
    """
    cdef Chunk chunk
    if nbytes > budget.limit - budget.used:
        return None
    chunk = Chunk(nbytes)
    budget.charge(nbytes)
    chunk.budget = budget
    return chunk


@cython.final
cdef class Held:
    """Held(obj)\n--\n\nA borrowed, contiguous buffer of another object, held until the last view of it is gone.

    Exports the same memory as flat unsigned bytes (view; read-only when the lender's is).
    Raises TypeError when the object has no buffer, BufferError when it is not contiguous.
    """

    def __cinit__(self, obj):
        global holds
        PyObject_GetBuffer(obj, &self.view, PyBUF_SIMPLE)
        self.held = True
        holds += 1

    def __dealloc__(self):
        global holds
        if self.held:
            PyBuffer_Release(&self.view)
            holds -= 1

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.view.buf, self.view.len, self.view.readonly, flags)

    def __len__(self):
        return self.view.len

    @property
    def nbytes(self):
        return self.view.len

    @property
    def address(self):
        return <uintptr_t>self.view.buf

    @property
    def readonly(self):
        return bool(self.view.readonly)

    def __repr__(self):
        return f"<Held of {self.view.len:,} bytes>"


def pool_stats():
    """Counters of this process: chunks alive and their bytes, blocks waiting in the pool, reuse, holds alive.

    ``locked_bytes`` are page-locked (see ``page_lock``), in use and waiting; ``lock_failures`` counts refusals to lock
    or unlock, ``lock_error`` is the code of the last one.
    """
    return {
        "live_chunks": live_chunks, "live_bytes": live_bytes,
        "pooled_blocks": pool_count, "pooled_bytes": pool_bytes,
        "reused": reused, "mapped": mapped, "holds": holds,
        "locked_bytes": locked_bytes, "lock_failures": lock_failures, "lock_error": lock_error,
    }


def pool_limit(Py_ssize_t nbytes):
    """Set how many bytes of freed blocks the pool may keep (default 256 MiB); returns the previous cap."""
    global pool_cap
    if nbytes < 0:
        raise ValueError(f"the pool's limit is 0 or more bytes, not {nbytes}")
    before = pool_cap
    pool_cap = nbytes
    pool_evict(pool_cap)
    return before


def page_lock(uintptr_t lock, uintptr_t unlock):
    """Page-lock the blocks of Chunks from 2 MiB up, so that an accelerator reads and writes them directly; 0, 0 ends it.

    Both are addresses of C functions that give 0 for success and must stay loaded for as long as the process lives:
    ``int lock(void *data, size_t nbytes, unsigned flags)``, such as cudaHostRegister, called with flags 0 and without the
    interpreter lock after a block is mapped, and ``int unlock(void *data)``, such as cudaHostUnregister, called before
    it is unmapped:
    https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__MEMORY.html

    A block that cannot be locked is used as it is; one that cannot be unlocked stays mapped. Each is unlocked by the
    function that was given with its lock. Blocks of Chunks alive now are locked when they are used again; when locking
    ends, those that wait are given back. Raises ValueError for one address without the other.
    """
    global lock_function, unlock_function
    if (lock == 0) != (unlock == 0):
        raise ValueError("page_lock takes two functions, or 0 twice")
    lock_function = <lock_pages>lock
    unlock_function = <unlock_pages>unlock
    if lock == 0:
        pool_evict(0)


def pool_trim(double unused=0.0):
    """Give blocks back to the system that have waited in the pool for ``unused`` seconds or longer, by default all;
    returns the bytes given back."""
    cdef double before = monotonic() - unused
    cdef size_t given = 0
    cdef Block oldest
    while pool_count and pool[0].since <= before:
        oldest = pool[0]
        pool_remove(0)
        given += oldest.capacity
        free_block(oldest.data, oldest.capacity, oldest.unlock)
    return given
