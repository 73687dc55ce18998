"""All tensors on a GPU in one launch: torch's own functions take some dozens, and two passes where dtypes differ."""

from functools import cache
from typing import Any

import numpy as np
import torch

from multisched.runtime.protocol import LeafRuns

_BLOCK = 4096
"""Elements that one program of the kernel works on."""
_ALIGNED = 16
"""Bytes that are read at once, from addresses that are multiples of them."""
_DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


@cache
def kernel() -> Any:
    """The kernel, for a table of blocks: two addresses, a size, and whether it is whole and aligned. None if none."""
    try:
        import triton
        import triton.language as tl
    except ImportError:
        return None

    @triton.jit  # type: ignore[misc, untyped-decorator, unused-ignore]  # Triton has no types
    def blend(table, share, OLD: tl.constexpr, NEW: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
        row = table + tl.program_id(0).to(tl.int64) * 4
        old_at = tl.load(row).to(tl.pointer_type(OLD))
        new_at = tl.load(row + 1).to(tl.pointer_type(NEW))
        index = tl.arange(0, BLOCK)
        if tl.load(row + 3) != 0:
            old_at = tl.multiple_of(old_at, 16)
            new_at = tl.multiple_of(new_at, 16)
            old = tl.load(old_at + index).to(tl.float32)
            new = tl.load(new_at + index).to(OLD).to(tl.float32)
            tl.store(old_at + index, (old + share * (new - old)).to(OLD))
        else:
            inside = index < tl.load(row + 2)
            old = tl.load(old_at + index, inside).to(tl.float32)
            new = tl.load(new_at + index, inside).to(OLD).to(tl.float32)
            tl.store(old_at + index, (old + share * (new - old)).to(OLD), inside)

    def run(table: Any, share: float, old: torch.dtype, new: torch.dtype) -> None:
        names = getattr(tl, _DTYPES[old]), getattr(tl, _DTYPES[new])
        blend[(len(table),)](table, share, *names, BLOCK=_BLOCK, num_warps=8)

    return run


Launch = tuple[torch.Tensor, tuple[torch.dtype, torch.dtype]]


def launches(old: list[torch.Tensor], new: LeafRuns) -> list[Launch] | None:
    """What `launch` needs in order to blend all leaves; None if there is a leaf that the kernel cannot do."""
    if old[0].device.type != "cuda" or kernel() is None:
        return None
    memo = getattr(new, "memo", {})
    if "launches" not in memo:
        memo["launches"] = _launches(old, new)
    found: list[Launch] | None = memo["launches"]
    return found


def launch(tables: list[Launch], share: float) -> None:
    """Blend all leaves of the tables."""
    with torch.cuda.device(tables[0][0].device):
        for table, dtypes in tables:
            kernel()(table, share, *dtypes)


def _launches(old: list[torch.Tensor], new: LeafRuns) -> list[Launch] | None:
    """A table of blocks for each pair of dtypes, on the device; None if there is a leaf that the kernel cannot do."""
    rows: dict[tuple[torch.dtype, torch.dtype], list[np.ndarray]] = {}
    for target, runs in zip(old, new, strict=True):
        at, width = target.data_ptr(), target.element_size()
        if target.dtype not in _DTYPES or target.device != old[0].device or not target.is_contiguous():
            return None
        for leaf in (leaf for run in runs for leaf in run):
            if leaf.dtype not in _DTYPES or not leaf.is_contiguous():
                return None
            blocks = _blocks(at, leaf.data_ptr(), leaf.numel(), width, leaf.element_size())
            rows.setdefault((target.dtype, leaf.dtype), []).append(blocks)
            at += leaf.numel() * width
    return [(torch.from_numpy(np.concatenate(found)).to(old[0].device), pair) for pair, found in rows.items()]


def _blocks(old: int, new: int, size: int, old_width: int, new_width: int) -> np.ndarray:
    starts = np.arange(0, size, _BLOCK, dtype=np.int64)
    sizes = np.minimum(size - starts, _BLOCK)
    aligned = (old % _ALIGNED == 0) & (new % _ALIGNED == 0) & (sizes == _BLOCK)
    return np.stack([old + starts * old_width, new + starts * new_width, sizes, aligned.astype(np.int64)], axis=1)
