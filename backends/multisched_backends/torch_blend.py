"""torch's blending of averages, in place: as few launches as can be, and one pass over the memory."""

import warnings
from collections.abc import Callable
from functools import cache, partial, reduce
from typing import Any, ClassVar

import numpy as np
import torch

from multisched.runtime.protocol import LeafRuns, Parts, Step, Write
from multisched_backends import host, torch_triton
from multisched_backends.array_api import wrapped
from multisched_backends.host import Call, only_leaf
from multisched_backends.torch_trees import local

CHUNK = 256 * 1024
"""Elements that are cast at a time, where dtypes differ: on a CPU, what its cache holds."""
CHUNK_APART = 8 * 1024 * 1024
"""The same on other devices, where it takes more to be worth a launch."""


def blend(old: list[Any], new: LeafRuns, share: Any, where: Any) -> list[Write]:
    """What blends leaves into each tensor of `old`, in place: calls of C functions of torch."""
    writes: list[Write] = []
    if isinstance(share, float):
        if share == 0:
            return writes
        share = None if share == 1 else share  # from here on: None to copy, a number between 0 and 1, or a tensor
    if isinstance(share, float) and where is None:
        if (launches := torch_triton.launches(old, new)) is not None:
            return host.apart([on_its_stream(partial(torch_triton.launch, launches, share), old[0])])
        writes, (old, new) = host.blend(old, new, share, _CpuTensors())
    calls = _blend_all(old, new, share, where)
    return [*writes, host.sequence(calls)] if calls else writes


def _blend_all(old: list[Any], new: LeafRuns, share: Any, where: Any) -> list[Call]:
    """The calls of torch that blend in all leaves: one for all tensors that it can do together."""
    calls: list[Call] = []
    together: tuple[list[Any], list[Any]] = ([], [])
    can_be_together = where is None and (share is None or _lerps(share))
    for target, runs in zip(old, new, strict=True):
        value = only_leaf(runs)
        if value is None and share is None and where is None:
            calls += _gather(target, runs)
            continue
        if value is None:
            value = _scratch(target.dtype, target.device, target.numel(), "values")
            calls += _gather(value, runs)
        elif can_be_together and value.dtype == target.dtype:
            together[0].append(target)
            together[1].append(value)
            continue
        calls += _chunked(target, value, share, where)
    if together[0]:
        calls.append((torch._foreach_copy_, *together) if share is None else (torch._foreach_lerp_, *together, share))
    return calls


def _lerps(share: Any) -> bool:
    """Whether `lerp` of torch computes `old + share * (new - old)`: from a share of a half on it does not.

    Then it starts from the end, `new - (new - old) * (1 - share)`, which makes NaN of a finite mean and an infinite
    value.
    """
    return isinstance(share, float) and share < 0.5


def on_its_stream(job: Callable[[], None], tensor: torch.Tensor) -> Callable[[], None]:
    """A job for another thread, on the stream of the device of a tensor that is this thread's now."""
    if tensor.device.type != "cuda":
        return job
    stream = torch.cuda.current_stream(tensor.device)

    def run() -> None:
        with torch.cuda.stream(stream):
            job()

    return run


class _CpuTensors:
    """Tensors on the CPU, for the compiled loop."""

    dtypes: ClassVar[dict[torch.dtype, np.dtype[Any]]] = {
        torch.float32: np.dtype("float32"),
        torch.float64: np.dtype("float64"),
    }

    def dtype(self, old: torch.Tensor, leaf: torch.Tensor) -> np.dtype[Any] | None:
        plain = old.is_contiguous() and leaf.is_contiguous() and leaf.dtype == old.dtype and leaf.device.type == "cpu"
        return self.dtypes.get(old.dtype) if plain else None

    def address(self, array: torch.Tensor) -> int:
        return array.data_ptr()

    def size(self, array: torch.Tensor) -> int:
        return array.numel()


def blend_by(step: Step, old: list[Parts], new: LeafRuns, scalars: Any) -> None:
    """`step` on each tuple of tensors, chunk by chunk, in place: Python, for another thread."""
    start = 0
    for parts, runs in zip(old, new, strict=True):
        flat = [part.reshape(-1) for part in parts]  # views, but of strided ones, which are copied back
        chunk = _chunk(flat[0])
        leaf = only_leaf(runs)
        if leaf is not None:
            value = local(leaf).reshape(-1)
        else:
            value = _scratch(_common_dtype(runs), flat[0].device, flat[0].numel(), "values")
            host.sequence(_gather(value, runs))()
        value = value.detach()
        if not _fused(step, tuple(flat), value, wrapped(start), scalars):
            for at in range(0, value.numel(), chunk):
                block = [part[at : at + chunk] for part in flat]
                index = torch.arange(len(block[0]), dtype=torch.int32, device=value.device) + wrapped(start + at)
                moved = step(tuple(block), value[at : at + chunk], index, *scalars)
                for part, result in zip(block, moved, strict=True):
                    part.copy_(result)
        for part, copied in zip(parts, flat, strict=True):
            if not part.is_contiguous():
                part.copy_(copied.view(part.shape))
        # All elements of a distributed tensor count, so that what follows has the same positions on each process.
        start += sum(leaf.numel() for run in runs for leaf in run)


def _fused(step: Step, parts: Parts, value: torch.Tensor, start: int, scalars: Any) -> bool:
    """`step` in place as one kernel of a GPU, if it compiles; by itself each of its operations goes through memory."""
    if value.device.type != "cuda" or value.numel() < CHUNK or _failed:
        return False
    try:
        _compiled(step)(parts, value, *map(_on(value.device), (start, *scalars)))
    except Exception as cause:  # of a compiler, before anything was written
        _failed.append(cause)
        warnings.warn(f"torch.compile failed, so that rounding on the GPU is slow: {cause}", stacklevel=2)
        return False
    return True


_failed: list[Exception] = []


@cache
def _compiled(step: Step) -> Any:
    def run(parts: Parts, value: torch.Tensor, start: torch.Tensor, *scalars: Any) -> None:
        index = torch.arange(value.numel(), dtype=torch.int32, device=value.device) + start
        for part, result in zip(parts, step(parts, value, index, *scalars), strict=True):
            part.copy_(result)

    return torch.compile(run, fullgraph=True, dynamic=True)


def _on(device: torch.device) -> Callable[[Any], Any]:
    """Numbers that change from call to call as tensors, so that nothing is compiled again for them."""
    dtypes = {int: torch.int32, float: torch.float32}
    return lambda x: torch.full((), x, dtype=dtypes[type(x)], device=device) if type(x) in dtypes else x


def _common_dtype(runs: list[list[torch.Tensor]]) -> torch.dtype:
    """One that holds what each leaf holds: they may have been cast one by one."""
    return reduce(torch.promote_types, {leaf.dtype for run in runs for leaf in run})


def _gather(target: torch.Tensor, runs: list[list[torch.Tensor]]) -> list[Call]:
    """The leaves of all runs, one after another in a flat tensor."""
    calls: list[Call] = []
    single: tuple[list[Any], list[Any]] = ([], [])
    at = 0
    for run in runs:
        size = run[0].numel() * len(run)
        part = target[at : at + size]
        at += size
        if len(run) == 1:
            single[0].append(part.view(run[0].shape))
            single[1].append(run[0])
        else:
            calls.append((partial(torch.stack, run, out=part.view(len(run), *run[0].shape)),))
    if single[0]:
        calls.append((torch._foreach_copy_, *single))
    return calls


def _chunked(old: torch.Tensor, new: torch.Tensor, share: Any, where: Any) -> list[Call]:
    """Blend in one tensor, in parts if it is large."""
    if new.numel() <= _chunk(old):
        return _blend_one(old, new, share, where)
    old, new = _flattened(old, new) or (old, new)
    rows = max(1, _chunk(old) * len(old) // old.numel())
    calls: list[Call] = []
    for at in range(0, len(old), rows):
        if rows == 1 and old.ndim > 1:
            calls += _chunked(old[at], new[at], share, where)
        else:
            calls += _blend_one(old[at : at + rows], new[at : at + rows], share, where)
    return calls


def _chunk(tensor: torch.Tensor) -> int:
    return CHUNK if tensor.device.type == "cpu" else CHUNK_APART


def _flattened(old: torch.Tensor, new: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Both in the order of memory, if it is the same and without gaps."""
    if old.is_contiguous() and new.is_contiguous():
        return old.view(-1), new.view(-1)
    if old.stride() != new.stride() or not _dense(new):
        return None
    return old.as_strided((old.numel(),), (1,)), new.as_strided((new.numel(),), (1,))


def _dense(tensor: torch.Tensor) -> bool:
    """Whether the elements fill their memory, in whatever order of the dimensions."""
    expected = 1
    for size, stride in sorted(zip(tensor.shape, tensor.stride(), strict=True), key=lambda pair: pair[::-1]):
        if size > 1 and stride != expected:
            return False
        expected *= size
    return True


def _blend_one(old: torch.Tensor, new: torch.Tensor, share: Any, where: Any) -> list[Call]:
    """Blend in one tensor at once; `share` is None, a number between 0 and 1, or a tensor."""
    if share is None and where is None:
        return [(old.copy_, new)]
    calls: list[Call] = []
    if new.dtype != old.dtype:
        cast = _like(old, "cast", old.dtype)
        calls.append((cast.copy_, new))
        new = cast
    if where is None and _lerps(share):
        return [*calls, (old.lerp_, new, share)]
    moved = new
    if share is not None:
        moved = _like(old, "moved", old.dtype)
        calls += _moved(old, new, share, moved)
    if where is None:
        return [*calls, (old.copy_, moved)]
    return [*calls, (partial(torch.where, where.to(old.device), moved, old, out=old),)]


def _moved(old: torch.Tensor, new: torch.Tensor, share: Any, moved: torch.Tensor) -> list[Call]:
    """`old + share * (new - old)` into `moved`, in float32 for what is held in half of it."""
    calls: list[Call] = []
    start, end = old, new
    if old.dtype.itemsize == 2:
        start, end = (_like(old, use, torch.float32) for use in ("start", "end"))
        calls = [(start.copy_, old), (end.copy_, new)]
    change = _like(old, "change", start.dtype)
    calls.append((partial(torch.sub, end, start, out=change),))
    if isinstance(share, float):
        return [*calls, (partial(torch.add, start, change, alpha=share, out=change),), (moved.copy_, change)]
    share = share.to(device=old.device, dtype=start.real.dtype if start.is_complex() else start.dtype)
    return [
        *calls,
        (change.mul_, share),
        (partial(torch.add, start, change, out=change),),
        (moved.copy_, change),
        (partial(torch.where, share == 0, old, moved, out=moved),),
        (partial(torch.where, share == 1, new, moved, out=moved),),
    ]


def _like(old: torch.Tensor, use: str, dtype: torch.dtype) -> torch.Tensor:
    """Memory for as many elements as `old` has."""
    return _scratch(dtype, old.device, old.numel(), use).view(old.shape)


def _scratch(dtype: torch.dtype, device: torch.device, size: int, use: str) -> torch.Tensor:
    """Memory of this thread on a device, kept."""
    found: torch.Tensor = host.kept((dtype, device, use), size, partial(torch.empty, dtype=dtype, device=device))
    return found
