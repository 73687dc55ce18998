"""NumPy's averages of whole models, at the speed of memory: one pass, in blocks that stay in the cache, by threads.

With the extra `fast`, numba compiles the pass; without, three calls of NumPy work on each block. Both give the same
numbers: `old + share * (new - old)`, each operation rounded.
"""

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np

from multisched.runtime.protocol import Parts, Step
from multisched_backends.array_api import wrapped

BLOCK = 64 * 1024
"""Elements of a block: what is read twice of it comes from the cache the second time."""
_ALONE = 512 * 1024
"""Elements below which a second thread costs more than it brings."""

Job = Callable[[], None]


def blend(old: list[np.ndarray], new: list[list[list[np.ndarray]]], share: float | None) -> None:
    """Blend leaves into each array of `old` in place; `share` None or 1 copies."""
    jobs: list[tuple[int, Job]] = []
    for target, runs in zip(old, new, strict=True):
        if len(runs) == 1 and len(runs[0]) == 1:
            jobs += _single(target, runs[0][0], share)
        else:
            jobs.append((target.size, _pack_job(target, runs, share)))
    _run(jobs)


def blend_by(step: Step, old: list[Parts], new: list[list[list[np.ndarray]]], scalars: tuple[Any, ...]) -> None:
    """`step` on each tuple of arrays, block by block, in place."""
    jobs: list[tuple[int, Job]] = []
    start = 0
    for parts, runs in zip(old, new, strict=True):
        flat = [part.reshape(-1) for part in parts]
        if len(runs) == 1 and len(runs[0]) == 1:
            value = runs[0][0].reshape(-1)
        else:
            value = np.empty(flat[0].size, runs[0][0].dtype)
            _gather(value, runs)
        for at in range(0, value.size, BLOCK):
            block = tuple(part[at : at + BLOCK] for part in flat)
            jobs.append((BLOCK, _step_job(step, block, value[at : at + BLOCK], start + at, scalars)))
        start += value.size
    _run(jobs)


def _step_job(step: Step, parts: Parts, value: np.ndarray, at: int, scalars: tuple[Any, ...]) -> Job:
    def job() -> None:
        index = np.arange(value.size, dtype=np.int32) + np.int32(wrapped(at))
        for part, result in zip(parts, step(parts, value, index, *scalars), strict=True):
            part[...] = result

    return job


def _single(old: np.ndarray, new: np.ndarray, share: float | None) -> list[tuple[int, Job]]:
    if new.flags.c_contiguous:
        old, new = old.reshape(-1), new.reshape(-1)
    elif new.flags.f_contiguous and old.flags.f_contiguous:
        old, new = old.reshape(-1, order="F"), new.reshape(-1, order="F")
    if old.ndim == 0 or old.size <= BLOCK:
        return [(old.size, _job(old, new, share))]
    rows = max(1, BLOCK * len(old) // old.size)
    if _kernel(old, new, share) is not None:
        rows *= 8
    size = rows * (old.size // len(old))
    return [(size, _job(old[i : i + rows], new[i : i + rows], share)) for i in range(0, len(old), rows)]


def _job(old: np.ndarray, new: np.ndarray, share: float | None) -> Job:
    return lambda: _block(old, new, share)


def _pack_job(old: np.ndarray, runs: list[list[np.ndarray]], share: float | None) -> Job:
    def job() -> None:
        if share is None or share == 1:
            _gather(old, runs)
            return
        value = _scratch(old.dtype, old.size, "pack")
        _gather(value, runs)
        for i in range(0, old.size, BLOCK):
            _block(old[i : i + BLOCK], value[i : i + BLOCK], share)

    return job


def _gather(target: np.ndarray, runs: list[list[np.ndarray]]) -> None:
    """The leaves of all runs, one after another in a flat array."""
    at = 0
    for run in runs:
        shape, size = run[0].shape, run[0].size * len(run)
        part = target[at : at + size]
        at += size
        if shape:
            np.concatenate(run, out=part.reshape(len(run) * shape[0], *shape[1:]), casting="unsafe")
        else:
            np.stack(run, out=part, casting="unsafe")


def _block(old: np.ndarray, new: np.ndarray, share: float | None) -> None:
    if share is None or share == 1:
        np.copyto(old, new, casting="unsafe")
        return
    kernel = _kernel(old, new, share)
    if kernel is not None:
        kernel(old, new, old.dtype.type(share))
        return
    change = _scratch(old.dtype, old.size, "change").reshape(old.shape)
    if new.dtype == old.dtype:
        np.subtract(new, old, out=change)
    else:
        np.copyto(change, new, casting="unsafe")
        np.subtract(change, old, out=change)
    np.multiply(change, old.real.dtype.type(share), out=change)
    np.add(old, change, out=old)


# --- numba -----------------------------------------------------------------------------------------------------------
def _kernel(old: np.ndarray, new: np.ndarray, share: float | None) -> Any:
    plain = old.dtype == new.dtype and old.dtype.char in "fd" and old.ndim == 1 and share is not None
    return _compiled() if plain else None


@cache
def _compiled() -> Any:
    """The pass as one loop, or None without numba."""
    try:
        import numba
    except ImportError:
        return None

    @numba.njit(nogil=True)  # type: ignore[misc, untyped-decorator, unused-ignore]
    def run(old: Any, new: Any, share: Any) -> None:
        for i in range(old.size):
            old[i] += share * (new[i] - old[i])

    return run


# --- threads ---------------------------------------------------------------------------------------------------------
_own = threading.local()


def _scratch(dtype: np.dtype[Any], size: int, use: str) -> np.ndarray:
    """Memory of this thread, kept: new pages cost more than what is done in them."""
    kept = _own.__dict__.setdefault("kept", {})
    found = kept.get((dtype, use))
    if found is None or found.size < size:
        kept[dtype, use] = found = np.empty(max(size, BLOCK), dtype)
    return found[:size]


@cache
def _workers() -> tuple[int, ThreadPoolExecutor | None]:
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # no Linux
        cores = os.cpu_count() or 1
    cores = min(cores, 8)
    return cores, ThreadPoolExecutor(cores - 1, "multisched") if cores > 1 else None


def _run(jobs: list[tuple[int, Job]]) -> None:
    total = sum(size for size, _ in jobs)
    cores, pool = _workers()
    waiting = deque(job for _, job in jobs)
    if pool is None or total < _ALONE or len(jobs) == 1:
        _serve(waiting)
        return
    others = [pool.submit(_serve, waiting) for _ in range(cores - 1)]
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
