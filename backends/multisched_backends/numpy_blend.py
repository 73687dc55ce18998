"""NumPy's averages of whole models, at the speed of memory: one pass, in blocks that stay in the cache, by threads.

With the extra `fast` it is one compiled loop; without, three calls of NumPy work on each block. Both give the same
numbers: `old + share * (new - old)`, each operation rounded.
"""

import threading
from typing import Any

import numpy as np

from multisched.runtime.protocol import Parts, Step
from multisched_backends import host
from multisched_backends.array_api import wrapped
from multisched_backends.host import Job

BLOCK = 64 * 1024
"""Elements of a block: what is read twice of it comes from the cache the second time."""


def blend(old: list[np.ndarray], new: list[list[list[np.ndarray]]], share: float | None) -> None:
    """Blend leaves into each array of `old` in place; `share` None or 1 copies."""
    if share is not None and share != 1:
        old, new = host.blend(old, new, share, _Look())
    jobs: list[Job] = []
    for target, runs in zip(old, new, strict=True):
        if len(runs) == 1 and len(runs[0]) == 1:
            jobs += _single(target, runs[0][0], share)
        else:
            jobs.append(_pack_job(target, runs, share))
    host.run(jobs, sum(target.size for target in old))


class _Look:
    """Arrays of NumPy, for the compiled loop."""

    def dtype(self, old: np.ndarray, leaf: np.ndarray) -> np.dtype[Any] | None:
        if not isinstance(leaf, np.ndarray):  # a scalar has no place of its own
            return None
        both = old.flags, leaf.flags
        alike = all(f.c_contiguous for f in both) or all(f.f_contiguous for f in both)
        plain = alike and leaf.flags.aligned and leaf.dtype == old.dtype and old.dtype in host.DTYPES
        return old.dtype if plain else None

    def address(self, array: np.ndarray) -> int:
        return int(array.__array_interface__["data"][0])

    def size(self, array: np.ndarray) -> int:
        return array.size


def blend_by(step: Step, old: list[Parts], new: list[list[list[np.ndarray]]], scalars: tuple[Any, ...]) -> None:
    """`step` on each tuple of arrays, block by block, in place."""
    jobs: list[Job] = []
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
            jobs.append(_step_job(step, block, value[at : at + BLOCK], start + at, scalars))
        start += value.size
    host.run(jobs, start)


def _step_job(step: Step, parts: Parts, value: np.ndarray, at: int, scalars: tuple[Any, ...]) -> Job:
    def job() -> None:
        index = np.arange(value.size, dtype=np.int32) + np.int32(wrapped(at))
        for part, result in zip(parts, step(parts, value, index, *scalars), strict=True):
            part[...] = result

    return job


def _single(old: np.ndarray, new: np.ndarray, share: float | None) -> list[Job]:
    if new.flags.c_contiguous:
        old, new = old.reshape(-1), new.reshape(-1)
    elif new.flags.f_contiguous and old.flags.f_contiguous:
        old, new = old.reshape(-1, order="F"), new.reshape(-1, order="F")
    if old.ndim == 0 or old.size <= BLOCK:
        return [_job(old, new, share)]
    rows = max(1, BLOCK * len(old) // old.size)
    return [_job(old[i : i + rows], new[i : i + rows], share) for i in range(0, len(old), rows)]


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
    dtype = _arithmetic(old.dtype)
    change = _scratch(dtype, old.size, "change").reshape(old.shape)
    base = old
    if dtype != old.dtype:
        base = _scratch(dtype, old.size, "base").reshape(old.shape)
        np.copyto(base, old)
    if new.dtype == dtype == old.dtype:
        np.subtract(new, base, out=change)
    else:
        np.copyto(change, new.astype(old.dtype, copy=False) if dtype != old.dtype else new, casting="unsafe")
        np.subtract(change, base, out=change)
    np.multiply(change, dtype.type(0).real.dtype.type(share), out=change)
    np.add(base, change, out=old, casting="unsafe")


def _arithmetic(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype to compute in: float32 for what is held in half of it."""
    return np.dtype(np.float32) if dtype.itemsize == 2 else dtype


_own = threading.local()


def _scratch(dtype: np.dtype[Any], size: int, use: str) -> np.ndarray:
    """Memory of this thread, kept: new pages cost more than what is done in them."""
    kept = _own.__dict__.setdefault("kept", {})
    found: np.ndarray | None = kept.get((dtype, use))
    if found is None or found.size < size:
        kept[dtype, use] = found = np.empty(max(size, BLOCK), dtype)
    return found[:size]
