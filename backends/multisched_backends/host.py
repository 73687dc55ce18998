"""Work on the cores of the host: threads that share it, and with the extra `fast` one loop over all leaves.

The loop is compiled by numba and goes through a table of addresses, so that a leaf costs no call: 2,000 small arrays
take little longer than one of the same size.

Whatever writes is prepared here and run later, by `multisched.runtime.commit`: the calling thread may run the handler
of a signal between two lines of Python, and must not stop there. So its own part of the work is calls of C functions.
The other threads run no handlers, so they may run Python.
"""

import ctypes
import importlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cache, partial
from itertools import chain, starmap
from operator import call, itemgetter
from queue import SimpleQueue
from typing import Any, Protocol

import numpy as np

from multisched.runtime.protocol import LeafRuns, Write, exhaust

Call = tuple[Any, ...]
"""A C function with its arguments, as a tuple, which takes less time to make than a `Write`."""
Job = Callable[[], Sequence[Call]]
"""The calls of one job, which work in the memory of the thread that asks for them, one after another."""

ALONE = 1024 * 1024
"""Elements below which a second thread costs more than it brings."""
_LONGEST = 128 * 1024
"""Elements of a row of a table: what one thread does before another may take over."""
_MOST = 8
"""Threads beyond which the memory is no faster."""


def sequence(calls: Iterable[Call]) -> Write:
    """Calls, one after another, as one; the iterable is a list, or made in C like it."""
    return partial(exhaust, starmap(call, calls))


def perform(writes: Iterable[Write]) -> None:
    """Do all of it, where nothing else is to happen in the same step."""
    exhaust(map(call, writes))


# --- threads ---------------------------------------------------------------------------------------------------------
class _Shared:
    """Jobs that several threads take from one queue."""

    def __init__(self, entries: Iterable[tuple[Sequence[Call], Job]], threads: int):
        self.waiting: deque[Any] = deque([*entries, *[None] * (threads + 1)])  # a None for each thread that takes them
        self.left = [None] * (len(self.waiting) - threads - 1)
        """One for each job of another thread that is not done."""
        self.busy: list[None] = []
        """One for each other thread that is at work."""
        self.failed: list[BaseException] = []
        self.thread = threading.get_ident()

    def serve(self) -> None:
        """Do jobs until there are none, as one of the other threads; once one has failed, none is begun."""
        self.busy.append(None)
        while (entry := self._next()) is not None:
            try:
                if not self.failed:
                    exhaust(starmap(call, entry[1]()))
            except BaseException as error:
                self.failed.append(error)
            self.left.pop()
        self.busy.pop()

    def _next(self) -> Any:
        try:
            return self.waiting.popleft()
        except IndexError:  # the thread whose work it is has failed, see `settle`
            return None


class _Crew:
    """Threads that wait for work; they end with the process."""

    def __init__(self) -> None:
        self.cores = _cores()
        self.work: SimpleQueue[_Shared] = SimpleQueue()
        self.threads: list[threading.Thread] = []
        self._starting = threading.RLock()

    def wanted(self, count: int) -> int:
        """How many of `count` threads there are: none while Python shuts down, when they do not run any more."""
        if sys.is_finalizing():
            return 0
        while len(self.threads) < count:
            with self._starting:
                thread = threading.Thread(target=_work, args=(self.work,), name="multisched", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # the system has no more, or Python shuts down
                    return len(self.threads)
                self.threads.append(thread)
        return count


def _work(queue: "SimpleQueue[_Shared]") -> None:
    with np.errstate(all="ignore"):
        while True:
            queue.get().serve()


def _cores() -> int:
    """The cores that this process may use; OMP_NUM_THREADS, where it is a number of threads, says so too."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # no Linux
        cores = os.cpu_count() or 1
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # of a list, one for each level of nesting
    asked = int(first) if first.isascii() and first.isdecimal() and len(first) < 10 else 0
    return min(cores, _MOST, asked or cores)


_crew = _Crew()
_open: list[_Shared] = []
"""What threads work at now."""


def _forget() -> None:
    """A forked process has none of the threads."""
    global _crew
    _crew = _Crew()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def together(jobs: Sequence[Job], elements: int) -> list[Write]:
    """Jobs of so many elements, by this thread and others, if it is worth it; they run in no order."""
    crew = _crew
    mine = [job() for job in jobs]
    others = min(crew.cores, len(jobs)) - 1
    others = crew.wanted(others) if others > 0 and elements >= ALONE else 0
    if not others:
        return [sequence(chain.from_iterable(mine))]
    shared = _Shared(zip(mine, jobs, strict=True), others)
    ours = map(itemgetter(0), iter(shared.waiting.popleft, None))
    return [*_begun(crew, shared, others), sequence(chain.from_iterable(ours)), *_ended(shared, shared.busy, _turn)]


def apart(jobs: Sequence[Callable[[], None]]) -> list[Write]:
    """Functions in Python, done by other threads while this one waits, where no signal stops them."""
    crew = _crew
    others = crew.wanted(min(crew.cores, len(jobs)))
    if not others:
        return list(jobs)
    shared = _Shared((((), partial(_once, job)) for job in jobs), others)
    return [*_begun(crew, shared, others), *_ended(shared, shared.left, _nap())]


def _once(job: Callable[[], None]) -> Sequence[Call]:
    return ((job,),)


def _begun(crew: _Crew, shared: _Shared, others: int) -> list[Write]:
    return [partial(_open.append, shared), partial(exhaust, map(crew.work.put, [shared] * others))]


def _ended(shared: _Shared, until: list[None], pause: Write) -> list[Write]:
    """Wait in C until a list is empty, and raise what another thread raised."""
    return [
        _waiting(until, pause),
        partial(exhaust, map(_raise, shared.failed)),
        partial(_open.remove, shared),
    ]


def _waiting(until: list[None], pause: Write) -> Write:
    return partial(exhaust, zip(iter(until.__len__, 0), iter(pause, _NEVER), strict=False))


def settle() -> None:
    """Wait until no other thread works for this one, which has failed."""
    for shared in [shared for shared in _open if shared.thread == threading.get_ident()]:
        shared.waiting.clear()
        _waiting(shared.busy, _turn)()
        _open.remove(shared)


def _raise(error: BaseException) -> None:
    raise error


_NEVER = object()
_turn = partial(time.sleep, 0)
"""Lets other threads run; it ends at once, so it handles no signals."""


@cache
def _nap() -> Write:
    """Sleeps for 0.02 ms and handles no signals, as all functions of Python that wait do."""
    try:
        api = ctypes.CDLL(ctypes.pythonapi._name, handle=ctypes.pythonapi._handle)  # one that lets other threads run
        api.PyThread_allocate_lock.restype = ctypes.c_void_p
        lock = ctypes.c_void_p(api.PyThread_allocate_lock())
        api.PyThread_acquire_lock(lock, 1)
        return partial(api.PyThread_acquire_lock_timed, lock, ctypes.c_longlong(20), 0)  # it is never released
    except AttributeError:
        return _turn


def memory(dtype: np.dtype[Any], size: int, use: str) -> np.ndarray:
    """Memory of this thread for a use, kept."""
    found: np.ndarray = kept((dtype, use), size, partial(np.empty, dtype=dtype))
    return found


def kept(key: Hashable, size: int, make: Callable[[int], Any]) -> Any:
    """A flat array of this thread, from `make(size)`, kept: new pages cost more than what is done in them."""
    arrays = _own.__dict__.setdefault("arrays", {})
    found = arrays.get(key)
    if found is None or len(found) < size:
        arrays[key] = found = make(size)
    return found[:size]


_own = threading.local()


# --- one loop over all leaves ----------------------------------------------------------------------------------------
class Table:
    """Where averages and values lie: for each of them two addresses and a size; they must stay while it is used."""

    def __init__(self, dtype: np.dtype[Any], rows: Iterable[tuple[int, int, int]]):
        self._kernel = _kernel(dtype)
        self._real = dtype.type
        found = [_cut(*row, dtype.itemsize) for row in rows]
        self._rows = np.concatenate(found) if found else np.empty((0, 3), np.int64)
        self._elements = int(self._rows[:, 2].sum())
        ends = np.cumsum(self._rows[:, 2])
        starts = np.searchsorted(ends, np.arange(0, self._elements, max(_LONGEST, self._elements // 64)), side="right")
        self._parts = np.unique([*starts, len(self._rows)]).tolist()

    def blend(self, share: float) -> list[Write]:
        """`old + share * (new - old)` for each row."""
        rows, kernel, exact = self._rows, self._kernel, self._real(share)
        if len(self._parts) == 2 or self._elements < ALONE:
            return [partial(kernel, rows, 0, len(rows), exact)]
        pairs = zip(self._parts, self._parts[1:], strict=False)
        return together([partial(_once, partial(kernel, rows, a, b, exact)) for a, b in pairs], self._elements)


def _cut(old: int, new: int, size: int, width: int) -> np.ndarray:
    starts = np.arange(0, size, _LONGEST, dtype=np.int64)
    return np.stack([old + starts * width, new + starts * width, np.minimum(size - starts, _LONGEST)], axis=1)


class HostArrays(Protocol):
    """What the loop has to know of arrays of one framework."""

    def dtype(self, old: Any, leaf: Any) -> np.dtype[Any] | None:
        """Of an average and a value, if they are for the loop: of one dtype, and in one order without gaps."""

    def address(self, array: Any) -> int:
        """Where its elements begin."""

    def size(self, array: Any) -> int:
        """How many there are."""


def only_leaf(runs: list[list[Any]]) -> Any:
    """The leaf of an array of state that belongs to one leaf alone; None where several are packed in it."""
    return runs[0][0] if len(runs) == 1 and len(runs[0]) == 1 else None


Left = tuple[list[Any], LeafRuns]
"""Arrays of state, and the leaves of each."""


def blend(old: list[Any], new: LeafRuns, share: float, arrays: HostArrays) -> tuple[list[Write], Left]:
    """Blend in all leaves that the compiled loop can do; returns what does it, and what is left."""
    if not compiled():
        return [], (old, new)
    memo = getattr(new, "memo", {})
    memo["calls"] = memo.get("calls", 0) + 1
    again = memo["calls"] > 1
    tables, left = memo.get("plan") or _plan(old, new, arrays, again)
    if again:
        memo["plan"] = tables, left
    return [write for table in tables for write in table.blend(share)], left


def _plan(old: list[Any], new: LeafRuns, arrays: HostArrays, packs: bool) -> tuple[list[Table], Left]:
    """Tables of the leaves that the loop can do, and what is left.

    Looking up the addresses of small leaves takes longer than gathering them, unless they are used again: `packs`.
    """
    rows: dict[np.dtype[Any], list[tuple[int, int, int]]] = {}
    left: Left = ([], [])
    for target, runs in zip(old, new, strict=True):
        looked_up = packs or only_leaf(runs) is not None
        dtypes = {arrays.dtype(target, leaf) for run in runs for leaf in run} if looked_up else {None}
        if None in dtypes:
            left[0].append(target)
            left[1].append(runs)
            continue
        at, dtype = arrays.address(target), dtypes.pop()
        assert dtype is not None
        for leaf in (leaf for run in runs for leaf in run):
            rows.setdefault(dtype, []).append((at, arrays.address(leaf), arrays.size(leaf)))
            at += arrays.size(leaf) * dtype.itemsize
    return [Table(dtype, found) for dtype, found in rows.items()], left


@cache
def compiled() -> bool:
    """Whether there is numba to compile the loop."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


DTYPES = tuple(map(np.dtype, ("float32", "float64")))
"""Those that the loop is compiled for."""


@cache
def _kernel(dtype: np.dtype[Any]) -> Any:
    numba: Any = importlib.import_module("numba")
    intrinsic: Any = importlib.import_module("numba.extending").intrinsic

    kind = numba.from_dtype(dtype)

    @intrinsic  # type: ignore[untyped-decorator]  # numba has no types
    def at(_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return numba.types.CPointer(kind)(address), generate  # type: ignore[no-untyped-call, unused-ignore]  # numba has no types

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator]  # numba has no types
    def blend(rows: Any, start: Any, stop: Any, share: Any) -> None:
        for row in range(start, stop):
            size = rows[row, 2]
            old, new = numba.carray(at(rows[row, 0]), (size,)), numba.carray(at(rows[row, 1]), (size,))
            for i in range(size):
                old[i] += share * (new[i] - old[i])

    blend(np.empty((0, 3), np.int64), 0, 0, dtype.type(0))  # compiled here, by one thread
    return blend
