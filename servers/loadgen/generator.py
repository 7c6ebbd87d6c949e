"""The loop that sends requests over many connections, on one thread.

Plain epoll: 13 microseconds of processor time for a request of 4 kB and its answer, where threads that share a
``tensorwire.Client`` take 18, and get in each other's way while one of them is to keep to a schedule.
"""

from __future__ import annotations

import gc
from collections import deque
from ctypes import CDLL
from select import EPOLLIN, EPOLLOUT, epoll, select
from time import perf_counter, process_time
from typing import Final

from tensorwire._address import Address, request_head
from tensorwire._exchange import Format
from tensorwire._frame import Frame
from tensorwire.servers.loadgen.lane import Failed, Lane
from tensorwire.servers.loadgen.plan import Plan, Progress
from tensorwire.servers.loadgen.tally import Tally

__all__ = ["Generator"]

_TICK: Final = 0.2  # seconds between two looks at timeouts, and reports of progress
_PARKED: Final = 0.1  # seconds without new connections after one could not be made
_CONNECT: Final = 2.0  # seconds that making one may take during the run, in which all others wait
_FLUSH: Final = 8192  # latencies collected before they are put into the histogram
_MAX_NBYTES: Final = 2**31 - 1
_PR_SET_TIMERSLACK: Final = 29


class Generator:
    """Sends one request over and over, as a Plan says, and counts what becomes of it."""

    def __init__(self, plan: Plan, frame: Frame) -> None:
        options = plan.options
        address = Address(plan.url, verify=options.get("verify", True), cert=options.get("cert"))
        fields = {"authorization": f"Bearer {options['token']}"} if "token" in options else None
        format = Format(address.text, request_head(address, fields), _MAX_NBYTES)
        self._plan = plan
        self._frame = frame
        self._poll = epoll()
        self._lanes = [Lane(address, format) for _ in range(plan.connections)]
        self._by_number: dict[int, Lane] = {}
        self._idle = deque(self._lanes)
        self._tally = Tally()
        self._latencies: list[float] = []
        self._answered = self._failed = 0  # warm-up included
        self._start = self._measured = self._stop = self._last = 0.0
        self._parked = 0.0  # until when no new connections are made
        self._scheduled = 0  # requests of the schedule that were begun, or dropped

    def open(self) -> None:
        """Make all connections. Raises Failed when one cannot be made."""
        for lane in self._lanes:
            self._connect(lane, self._plan.timeout)

    def close(self) -> None:
        for lane in self._lanes:
            lane.close()
        self._poll.close()

    def run(self, progress: Progress) -> Tally:
        """Send for as long as the plan says, and wait for the answers that are under way then."""
        plan = self._plan
        _exact_timers()
        gc.freeze()
        self._start = perf_counter()
        self._measured = self._start + plan.warmup
        self._stop = self._measured + plan.duration
        cpu = process_time()
        warm = False
        tick = self._start + _TICK
        now = self._start
        while now < self._stop:
            if not warm and now >= self._measured:
                cpu, warm = process_time(), True
            due = self._send(now)
            for number, events in self._wait(min(due, tick, self._stop)):
                self._serve(self._by_number[number], events)
            now = perf_counter()
            if now >= tick:
                tick = now + _TICK
                self._expire(now)
                progress(now - self._start, self._answered, self._failed)
        self._tally.cpu = process_time() - cpu
        self._drop_unsent()
        self._drain()
        self._flush()
        self._tally.window = plan.duration
        self._tally.seconds = max(plan.duration, self._last - self._measured)
        return self._tally

    def _send(self, now: float) -> float:
        """Begin every request that is due and has a connection; until when nothing else can be begun."""
        idle = self._idle
        if not self._plan.rate:
            for _ in range(len(idle)):
                now = perf_counter()
                self._begin(idle.popleft(), now, now)
            return self._stop if not idle else now + _PARKED / 4
        due = self._due()
        while due <= now and due < self._stop:
            lane = self._ready(now)
            if lane is None:
                return now + _PARKED / 4 if idle else self._stop
            self._scheduled += 1
            self._begin(lane, due, perf_counter())
            due = self._due()
        return due

    def _due(self) -> float:
        return self._start + self._plan.phase + self._scheduled / self._plan.rate

    def _ready(self, now: float) -> Lane | None:
        """The first idle lane that has a connection, or may make one."""
        idle = self._idle
        for _ in range(len(idle)):
            lane = idle.popleft()
            if lane.sock is not None or self._parked <= now:
                return lane
            idle.append(lane)
        return None

    def _begin(self, lane: Lane, due: float, now: float) -> None:
        """Send a request that is due; the lane is idle again when that fails."""
        if lane.sock is None and self._parked > now:
            self._idle.append(lane)
            return
        lane.due = due
        try:
            if lane.sock is None:
                self._connect(lane, min(self._plan.timeout, _CONNECT))
            if not lane.start(self._frame, due, now):
                assert lane.sock is not None
                self._poll.modify(lane.sock, EPOLLIN | EPOLLOUT)
        except Failed as failure:
            self._count_failure(lane, failure)

    def _connect(self, lane: Lane, timeout: float) -> None:
        sock = lane.connect(timeout)
        self._by_number[sock.fileno()] = lane
        self._poll.register(sock, EPOLLIN)

    def _wait(self, until: float) -> list[tuple[int, int]]:
        """What has happened, at once or by ``until``."""
        events = self._poll.poll(0)
        seconds = until - perf_counter()
        if events or seconds <= 0:
            return events
        # epoll rounds its time up to a millisecond; select, which can wait for the epoll itself, does not.
        select((self._poll,), (), (), seconds)
        return self._poll.poll(0)

    def _serve(self, lane: Lane, events: int) -> None:
        if lane.sock is None:  # closed by an earlier event of this round
            return
        try:
            if events & EPOLLOUT and lane.write():
                self._poll.modify(lane.sock, EPOLLIN)
            if events & ~EPOLLOUT and lane.read():
                now = perf_counter()
                self._count(lane, lane.take(), now)
        except Failed as failure:
            self._count_failure(lane, failure)

    def _count(self, lane: Lane, nbytes: int, now: float) -> None:
        self._idle.append(lane)
        self._answered += 1
        if now >= self._measured:
            tally = self._tally
            tally.requests += 1
            tally.nbytes_out += self._frame.nbytes
            tally.nbytes_in += nbytes
            self._last = now
            self._latencies.append(now - lane.due)
            if len(self._latencies) >= _FLUSH:
                self._flush()

    def _count_failure(self, lane: Lane, failure: Failed) -> None:
        self._idle.append(lane)
        self._failed += 1
        now = perf_counter()
        if failure.kind == "cannot connect":
            self._parked = now + _PARKED
        if now >= self._measured:
            self._tally.fail(failure.kind, str(failure))

    def _expire(self, now: float) -> None:
        """Give up on the answers that are late."""
        for lane in self._lanes:
            if lane.exchange is not None and now - lane.sent_at > self._plan.timeout:
                text = f"no answer within {self._plan.timeout:g} s: {lane.exchange.progress()}"
                lane.close()
                self._count_failure(lane, Failed("timeout", text))

    def _drop_unsent(self) -> None:
        """Count the requests of the schedule that no connection was free for."""
        if self._plan.rate:
            while self._due() < self._stop:
                self._scheduled += 1
                self._tally.unsent += 1

    def _drain(self) -> None:
        """Receive the answers that are still to come."""
        while any(lane.exchange is not None for lane in self._lanes):
            for number, events in self._wait(perf_counter() + _TICK):
                self._serve(self._by_number[number], events)
            self._expire(perf_counter())

    def _flush(self) -> None:
        self._tally.latencies.add(self._latencies)
        self._latencies.clear()


def _exact_timers() -> None:
    """Have the kernel wake this thread when it is time: it may be 50 microseconds late otherwise."""
    CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
