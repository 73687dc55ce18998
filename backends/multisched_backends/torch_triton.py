"""All tensors on a GPU in one launch: torch's own functions take some dozens, and two passes where dtypes differ."""

from collections import OrderedDict
from functools import cache
from typing import Any

import numpy as np
import torch

_BLOCK = 4096
"""Elements that one program of the kernel works on."""
_ALIGNED = 16
"""Bytes that are read at once, from addresses that are multiples of them."""
_DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}

Run = tuple[int, int, tuple[int, ...]]
"""Leaves of one size: where the first average begins, how many elements each has, and where the values begin."""


@cache
def kernel() -> Any:
    """The kernel, for a table of blocks: two addresses, a size, and whether it is whole and aligned. None if none."""
    try:
        import triton
        import triton.language as tl
    except ImportError:
        return None

    @triton.jit  # type: ignore[misc, untyped-decorator, unused-ignore]
    def blend(table, share, OLD: tl.constexpr, NEW: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def] # noqa: N803
        row = table + tl.program_id(0).to(tl.int64) * 4
        old_at = tl.load(row).to(tl.pointer_type(OLD))
        new_at = tl.load(row + 1).to(tl.pointer_type(NEW))
        index = tl.arange(0, BLOCK)
        if tl.load(row + 3) != 0:
            old_at = tl.multiple_of(old_at, 16)
            new_at = tl.multiple_of(new_at, 16)
            old = tl.load(old_at + index).to(tl.float32)
            new = tl.load(new_at + index).to(tl.float32)
            tl.store(old_at + index, (old + share * (new - old)).to(OLD))
        else:
            inside = index < tl.load(row + 2)
            old = tl.load(old_at + index, inside).to(tl.float32)
            new = tl.load(new_at + index, inside).to(tl.float32)
            tl.store(old_at + index, (old + share * (new - old)).to(OLD), inside)

    def run(table: Any, share: float, old: torch.dtype, new: torch.dtype) -> None:
        names = getattr(tl, _DTYPES[old]), getattr(tl, _DTYPES[new])
        blend[(len(table),)](table, share, *names, BLOCK=_BLOCK, num_warps=8)

    return run


def blended(old: list[torch.Tensor], new: list[list[list[torch.Tensor]]], share: float) -> bool:
    """Blend all leaves, if each of them is one that the kernel can; else do nothing, and say so."""
    device = old[0].device
    if device.type != "cuda" or kernel() is None:
        return False
    jobs: dict[tuple[torch.dtype, torch.dtype], list[Run]] = {}
    for target, runs in zip(old, new, strict=True):
        at, width = target.data_ptr(), target.element_size()
        if target.dtype not in _DTYPES or target.device != device or not target.is_contiguous():
            return False
        for run in runs:
            dtype, size = run[0].dtype, run[0].numel()
            if (
                dtype not in _DTYPES
                or not all(map(torch.Tensor.is_contiguous, run))
                or {x.dtype for x in run} != {dtype}
            ):
                return False
            jobs.setdefault((target.dtype, dtype), []).append((at, size, tuple(map(torch.Tensor.data_ptr, run))))
            at += len(run) * size * width
    with torch.cuda.device(device):
        for dtypes, rows in jobs.items():
            kernel()(_table(device, dtypes, tuple(rows)), share, *dtypes)
    return True


_tables: OrderedDict[Any, torch.Tensor] = OrderedDict()
_KEPT = 16


def _table(device: torch.device, dtypes: tuple[torch.dtype, torch.dtype], runs: tuple[Run, ...]) -> torch.Tensor:
    """The blocks of all leaves, on the device; kept, since a model stays where it is."""
    key = device, dtypes, runs
    found = _tables.get(key)
    if found is None:
        widths = [dtype.itemsize for dtype in dtypes]
        rows = [(at + i * size * widths[0], leaf, size) for at, size, leaves in runs for i, leaf in enumerate(leaves)]
        blocks = np.concatenate([_blocks(*row, *widths) for row in rows])
        found = _tables[key] = torch.from_numpy(blocks).to(device)
        while len(_tables) > _KEPT:
            _tables.popitem(last=False)
    return found


def _blocks(old: int, new: int, size: int, old_width: int, new_width: int) -> np.ndarray:
    starts = np.arange(0, size, _BLOCK, dtype=np.int64)
    sizes = np.minimum(size - starts, _BLOCK)
    aligned = (old % _ALIGNED == 0) & (new % _ALIGNED == 0) & (sizes == _BLOCK)
    return np.stack([old + starts * old_width, new + starts * new_width, sizes, aligned.astype(np.int64)], axis=1)
