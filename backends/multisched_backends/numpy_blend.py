"""NumPy's averages of whole models, at the speed of memory: one pass, in blocks that stay in the cache, by threads.

With the extra `fast` it is one compiled loop; without, three calls of NumPy work on each block. Both give the same
numbers: `old + share * (new - old)`, each operation rounded. What is here prepares the calls, see `host`; a function of
NumPy that asks Python how to dispatch is taken without that (`_concatenate`, and an assignment for `copyto`).
"""

from collections.abc import Sequence
from functools import partial
from operator import setitem
from typing import Any

import numpy as np

from multisched.runtime.protocol import LeafRuns, Parts, Step, Write
from multisched_backends import host
from multisched_backends.array_api import wrapped
from multisched_backends.host import Call, Job, only_leaf

BLOCK = 64 * 1024
"""Elements of a block: what is read twice of it comes from the cache the second time."""

_concatenate: Any = getattr(np.concatenate, "_implementation", np.concatenate)


def blend(old: list[np.ndarray], new: LeafRuns, share: float | None) -> list[Write]:
    """What blends leaves into each array of `old` in place; `share` None or 1 copies."""
    writes: list[Write] = []
    if share is not None and share != 1:
        writes, (old, new) = host.blend(old, new, share, _NumpyArrays())
    jobs: list[Job] = []
    for target, runs in zip(old, new, strict=True):
        leaf = only_leaf(runs)
        if leaf is not None:
            jobs += _single(target, leaf, share)
        else:
            jobs.append(partial(_pack, target, runs, share))
    return writes + host.together(jobs, sum(target.size for target in old)) if jobs else writes


class _NumpyArrays:
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


def blend_by(step: Step, old: list[Parts], new: LeafRuns, scalars: tuple[Any, ...]) -> list[Write]:
    """What does `step` on each tuple of arrays, block by block, in place; steps are Python, for other threads."""
    jobs = []
    start = 0
    for parts, runs in zip(old, new, strict=True):
        flat = [part.reshape(-1) for part in parts]
        leaf = only_leaf(runs)
        if leaf is not None:
            value = leaf.reshape(-1)
        else:
            value = np.empty(flat[0].size, runs[0][0].dtype)
            host.sequence(_gather(value, runs))()
        for at in range(0, value.size, BLOCK):
            block = tuple(part[at : at + BLOCK] for part in flat)
            jobs.append(partial(_step, step, block, value[at : at + BLOCK], start + at, scalars))
        start += value.size
    return host.apart(jobs)


def _step(step: Step, parts: Parts, value: np.ndarray, at: int, scalars: tuple[Any, ...]) -> None:
    index = np.arange(value.size, dtype=np.int32) + np.int32(wrapped(at))
    for part, result in zip(parts, step(parts, value, index, *scalars), strict=True):
        part[...] = result


def _single(old: np.ndarray, new: np.ndarray, share: float | None) -> list[Job]:
    if new.flags.c_contiguous:
        old, new = old.reshape(-1), new.reshape(-1)
    elif new.flags.f_contiguous and old.flags.f_contiguous:
        old, new = old.reshape(-1, order="F"), new.reshape(-1, order="F")
    if old.ndim == 0 or old.size <= BLOCK:
        return [partial(_block, old, new, share)]
    rows = max(1, BLOCK * len(old) // old.size)
    return [partial(_block, old[i : i + rows], new[i : i + rows], share) for i in range(0, len(old), rows)]


def _pack(old: np.ndarray, runs: list[list[np.ndarray]], share: float | None) -> Sequence[Call]:
    if share is None or share == 1:
        return _gather(old, runs)
    value = host.memory(old.dtype, old.size, "pack")
    calls = _gather(value, runs)
    for i in range(0, old.size, BLOCK):
        calls += _block(old[i : i + BLOCK], value[i : i + BLOCK], share)
    return calls


def _gather(target: np.ndarray, runs: list[list[np.ndarray]]) -> list[Call]:
    """The leaves of all runs, one after another in a flat array."""
    calls: list[Call] = []
    at = 0
    for run in runs:
        shape, size = run[0].shape, run[0].size * len(run)
        part = target[at : at + size]
        at += size
        if shape:
            out = part.reshape(len(run) * shape[0], *shape[1:])
            calls.append((partial(_concatenate, run, out=out, casting="unsafe"),))
        else:
            calls += [(setitem, part, i, leaf) for i, leaf in enumerate(run)]
    return calls


def _block(old: np.ndarray, new: np.ndarray, share: float | None) -> list[Call]:
    if share is None or share == 1:
        return [(setitem, old, ..., new)]
    dtype = _arithmetic(old.dtype)
    change = _memory(dtype, old, "change")
    calls: list[Call] = []
    base = old
    if dtype != old.dtype:
        base = _memory(dtype, old, "base")
        calls.append((setitem, base, ..., old))
        if new.dtype != old.dtype:
            narrow = _memory(old.dtype, old, "narrow")
            calls.append((setitem, narrow, ..., new))
            new = narrow
    if new.dtype == dtype:
        calls.append((np.subtract, new, base, change))
    else:
        calls += [(setitem, change, ..., new), (np.subtract, change, base, change)]
    calls.append((np.multiply, change, dtype.type(0).real.dtype.type(share), change))
    if dtype == old.dtype:
        return [*calls, (np.add, base, change, old)]
    return [*calls, (np.add, base, change, change), (setitem, old, ..., change)]


def _arithmetic(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype to compute in: float32 for what is held in half of it."""
    return np.dtype(np.float32) if dtype.itemsize == 2 else dtype


def _memory(dtype: np.dtype[Any], like: np.ndarray, use: str) -> np.ndarray:
    return host.memory(dtype, max(like.size, BLOCK), use)[: like.size].reshape(like.shape)
