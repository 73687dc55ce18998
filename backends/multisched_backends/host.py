"""Work on the cores of the host: threads that share it, and with the extra `fast` one loop over all leaves.

The loop is compiled by numba and goes through a table of addresses, so that a leaf costs no call: 2,000 small arrays
take little longer than one of the same size.
"""

import importlib
import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Protocol

import numpy as np

Job = Callable[[], None]

ALONE = 1024 * 1024
"""Elements below which a second thread costs more than it brings."""
_LONGEST = 128 * 1024
"""Elements of a row of a table: what one thread does before another may take over."""


# --- threads ---------------------------------------------------------------------------------------------------------
@cache
def _workers() -> tuple[int, ThreadPoolExecutor | None]:
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # no Linux
        cores = os.cpu_count() or 1
    cores = min(cores, 8, int(os.environ.get("OMP_NUM_THREADS", "").split(",")[0] or cores))
    return cores, ThreadPoolExecutor(cores - 1, "multisched") if cores > 1 else None


def run(jobs: Iterable[Job], elements: int) -> None:
    """Do jobs of so many elements together, by several threads if it is worth it; they run in no order."""
    waiting = deque(jobs)
    cores, pool = _workers()
    if pool is None or elements < ALONE or len(waiting) < 2:
        _serve(waiting)
        return
    others = [pool.submit(_serve, waiting) for _ in range(min(cores, len(waiting)) - 1)]
    try:
        _serve(waiting)
    finally:
        for other in others:
            other.result()


def _serve(waiting: deque[Job]) -> None:
    """Do jobs until there are none; several threads take from one queue."""
    with np.errstate(all="ignore"):
        while True:
            try:
                job = waiting.popleft()
            except IndexError:
                return
            job()


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

    def blend(self, share: float) -> None:
        """`old + share * (new - old)` for each row."""
        rows, kernel, exact = self._rows, self._kernel, self._real(share)
        if len(self._parts) == 2 or self._elements < ALONE:
            kernel(rows, 0, len(rows), exact)
            return
        pairs = zip(self._parts, self._parts[1:], strict=False)
        run([lambda a=a, b=b: kernel(rows, a, b, exact) for a, b in pairs], self._elements)  # type: ignore[misc]


def _cut(old: int, new: int, size: int, width: int) -> np.ndarray:
    starts = np.arange(0, size, _LONGEST, dtype=np.int64)
    return np.stack([old + starts * width, new + starts * width, np.minimum(size - starts, _LONGEST)], axis=1)


class Look(Protocol):
    """What the loop has to know of arrays of one kind."""

    def dtype(self, old: Any, leaf: Any) -> np.dtype[Any] | None:
        """Of an average and a value, if they are for the loop: of one dtype, and in one order without gaps."""

    def address(self, array: Any) -> int:
        """Where its elements begin."""

    def size(self, array: Any) -> int:
        """How many there are."""


Left = tuple[list[Any], list[list[list[Any]]]]
"""Arrays of state, and the leaves of each."""


def blend(old: list[Any], new: list[list[list[Any]]], share: float, look: Look) -> Left:
    """Blend in all leaves that the compiled loop can do; returns what is left."""
    if not compiled():
        return old, new
    memo = getattr(new, "memo", {})
    memo["calls"] = memo.get("calls", 0) + 1
    again = memo["calls"] > 1
    tables, left = memo.get("plan") or _plan(old, new, look, again)
    if again:
        memo["plan"] = tables, left
    for table in tables:
        table.blend(share)
    return left


def _plan(old: list[Any], new: list[list[list[Any]]], look: Look, packs: bool) -> tuple[list[Table], Left]:
    """Tables of the leaves that the loop can do, and what is left.

    Looking up the addresses of small leaves takes longer than gathering them, unless they are used again: `packs`.
    """
    rows: dict[np.dtype[Any], list[tuple[int, int, int]]] = {}
    left: Left = ([], [])
    for target, runs in zip(old, new, strict=True):
        single = len(runs) == 1 and len(runs[0]) == 1
        dtypes = {look.dtype(target, leaf) for run in runs for leaf in run} if single or packs else {None}
        if None in dtypes:
            left[0].append(target)
            left[1].append(runs)
            continue
        at, dtype = look.address(target), dtypes.pop()
        assert dtype is not None
        for leaf in (leaf for run in runs for leaf in run):
            rows.setdefault(dtype, []).append((at, look.address(leaf), look.size(leaf)))
            at += look.size(leaf) * dtype.itemsize
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

    @intrinsic  # type: ignore[untyped-decorator]
    def at(_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return numba.types.CPointer(kind)(address), generate  # type: ignore[no-untyped-call, unused-ignore]

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator]
    def blend(rows: Any, start: Any, stop: Any, share: Any) -> None:
        for row in range(start, stop):
            size = rows[row, 2]
            old, new = numba.carray(at(rows[row, 0]), (size,)), numba.carray(at(rows[row, 1]), (size,))
            for i in range(size):
                old[i] += share * (new[i] - old[i])

    blend(np.empty((0, 3), np.int64), 0, 0, dtype.type(0))  # compiled here, by one thread
    return blend
