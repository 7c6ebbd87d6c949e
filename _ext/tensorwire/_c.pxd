"""Every foreign declaration of the extensions: the C core of _ext/c, and the system calls under memory."""

cimport numpy as cnp
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "fault.h" nogil:
    ctypedef enum tw_status:
        TW_OK
        TW_SHORT
        TW_OFFSET
        TW_VTABLE
        TW_FIELD
        TW_VECTOR
        TW_DTYPE
        TW_DIMENSION
        TW_OVERFLOW
        TW_NBYTES
        TW_STRINGS
        TW_MISPLACED
        TW_UNION
        TW_NAMES
        TW_MISSING
        TW_LIMIT
        TW_TOO_LARGE

    ctypedef struct tw_fault:
        tw_status status
        const char *field
        uint64_t offset
        int64_t have
        int64_t want

cdef extern from "dtypes.h" nogil:
    enum:
        TW_NULL_TYPE
        TW_STRING
        TW_DTYPE_COUNT
    uint32_t tw_itemsize(uint8_t dtype)

cdef extern from "dlpack.h" nogil:
    enum:
        TW_DL_CPU
        TW_DL_CUDA_HOST

    ctypedef struct tw_dl_device:
        int32_t device_type
        int32_t device_id

    ctypedef struct tw_dl_dtype:
        uint8_t code
        uint8_t bits
        uint16_t lanes

    ctypedef struct tw_dl_tensor:
        void *data
        tw_dl_device device
        int32_t ndim
        tw_dl_dtype dtype
        int64_t *shape
        int64_t *strides
        uint64_t byte_offset

    ctypedef struct tw_dl_managed:
        tw_dl_tensor tensor
        void *context
        void (*deleter)(tw_dl_managed *self) noexcept

    uint8_t tw_from_dl(tw_dl_dtype dtype)
    tw_dl_dtype tw_to_dl(uint8_t dtype)

cdef extern from "reader.h" nogil:
    enum:
        TW_MAX_NDIM

    ctypedef struct tw_bytes:
        const uint8_t *base
        size_t size

    ctypedef struct tw_vector:
        tw_bytes in_ "in"
        size_t pos
        uint32_t count

    ctypedef struct tw_text:
        const char *data
        uint32_t size
        uint64_t offset

    ctypedef struct tw_limits:
        uint64_t max_nbytes
        uint32_t max_tensors
        uint32_t max_ndim
        uint64_t max_strings

    ctypedef struct tw_tensor:
        uint8_t dtype
        uint32_t ndim
        int64_t shape[64]
        uint64_t count
        const uint8_t *data
        uint64_t nbytes
        tw_vector strings
        uint64_t offset

    ctypedef enum tw_request_kind:
        TW_INFER_REQUEST
        TW_METADATA_REQUEST

    ctypedef struct tw_request:
        tw_request_kind kind
        tw_text config
        tw_vector input_names
        tw_vector input_tensors
        tw_vector output_names
        tw_text model_name
        int64_t model_version
        tw_text model_label
        tw_text signature
        tw_text request_id
        int64_t deadline_ms

    ctypedef struct tw_response:
        tw_vector output_tensors
        tw_vector errors
        tw_vector output_names

    ctypedef struct tw_error:
        int64_t code
        tw_text message

    ctypedef struct tw_metadata:
        tw_text name
        tw_text version
        tw_text server
        tw_text description
        tw_vector inputs
        tw_vector outputs

    ctypedef struct tw_spec:
        tw_text name
        tw_text description
        uint8_t dtype
        uint32_t ndim
        int64_t shape[64]

    tw_status tw_read_request(tw_bytes data, const tw_limits *limits, tw_request *out, tw_fault *fault)
    tw_status tw_read_response(tw_bytes data, const tw_limits *limits, tw_response *out, tw_fault *fault)
    tw_status tw_read_metadata(tw_bytes data, const tw_limits *limits, tw_metadata *out, tw_fault *fault)
    tw_status tw_read_tensor(const tw_vector *tensors, uint32_t i, const tw_limits *limits, tw_tensor *out,
                             tw_fault *fault)
    tw_status tw_read_error(const tw_vector *errors, uint32_t i, tw_error *out, tw_fault *fault)
    tw_status tw_read_spec(const tw_vector *specs, uint32_t i, const tw_limits *limits, tw_spec *out,
                           tw_fault *fault)
    tw_status tw_vector_text(const tw_vector *vector, uint32_t i, const char *field, tw_text *text, tw_fault *fault)

cdef extern from "writer.h" nogil:
    ctypedef struct tw_out:
        uint8_t *base
        uint64_t pos
        uint64_t external

    ctypedef struct tw_chars:
        const char *data
        size_t size

    ctypedef struct tw_part:
        uint8_t dtype
        bint inlined
        uint32_t ndim
        const int64_t *shape
        const void *data
        uint64_t nbytes
        const tw_chars *strings
        uint64_t count
        uint64_t header_end

    ctypedef struct tw_parts:
        tw_part *items
        uint32_t count

    ctypedef struct tw_names:
        const tw_chars *items
        uint32_t count

    ctypedef struct tw_request_parts:
        tw_chars config
        tw_chars model_name
        tw_chars model_label
        tw_chars signature
        tw_chars request_id
        int64_t model_version
        int64_t deadline_ms
        tw_names input_names
        tw_names output_names
        tw_parts inputs

    ctypedef struct tw_error_part:
        int64_t code
        tw_chars message

    ctypedef struct tw_response_parts:
        tw_names output_names
        tw_parts outputs
        const tw_error_part *errors
        uint32_t error_count

    ctypedef struct tw_spec_part:
        tw_chars name
        tw_chars description
        uint8_t dtype
        uint32_t ndim
        const int64_t *shape

    ctypedef struct tw_metadata_parts:
        tw_chars name
        tw_chars version
        tw_chars server
        tw_chars description
        const tw_spec_part *inputs
        const tw_spec_part *outputs
        uint32_t input_count
        uint32_t output_count

    tw_status tw_write_request(tw_out *out, tw_request_parts *parts, tw_fault *fault)
    tw_status tw_write_metadata_request(tw_out *out, tw_fault *fault)
    tw_status tw_write_response(tw_out *out, tw_response_parts *parts, tw_fault *fault)
    tw_status tw_write_metadata(tw_out *out, tw_metadata_parts *parts, tw_fault *fault)
    uint64_t tw_header_size(const tw_out *out)

cdef extern from "ndarray.h":
    enum:
        NPY_USERDEF
    cnp.ndarray tw_new_array(object dtype, int ndim, const int64_t *shape, const void *data, bint writable,
                             object base)
    cnp.ndarray tw_new_strided(object dtype, int ndim, const int64_t *shape, const int64_t *strides,
                               const void *data, bint writable, object base)

cdef extern from "<sys/mman.h>" nogil:
    enum:
        PROT_READ
        PROT_WRITE
        MAP_PRIVATE
        MAP_ANONYMOUS
        MADV_HUGEPAGE
    void *MAP_FAILED
    void *mmap(void *address, size_t n, int protection, int flags, int fd, long offset)
    int munmap(void *address, size_t n)
    int madvise(void *address, size_t n, int advice)

cdef extern from "<stdlib.h>" nogil:
    int posix_memalign(void **out, size_t alignment, size_t n)

cdef extern from "<string.h>" nogil:
    void *memmem(const void *haystack, size_t n, const void *needle, size_t m)

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "<sys/socket.h>" nogil:
    enum:
        MSG_DONTWAIT
        MSG_NOSIGNAL
        MSG_WAITALL
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    ssize_t sendmsg(int fd, const msghdr *message, int flags)
    ssize_t send(int fd, const void *data, size_t n, int flags)
    ssize_t recv(int fd, void *data, size_t n, int flags)

cdef extern from "<sched.h>" nogil:
    int sched_yield()

cdef extern from "<poll.h>" nogil:
    enum:
        POLLIN
        POLLOUT
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *fds, unsigned long count, int timeout)
