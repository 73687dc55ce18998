"""torch's averages of whole models: the leaves of modules, parts of distributed tensors, the way to the host."""

import sys
from collections.abc import Iterator
from functools import partial
from operator import setitem
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from multisched.runtime.protocol import Part, Write
from multisched_backends.array_api import overlaps

_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Submodules in which torch wraps a module, by names of its own."""
_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
"""Wrappers that call the module `module`, a name that a user's module may have as well."""


_Place = tuple[dict[str, Any], str]
"""Where a parameter or a buffer stands: in the table of a submodule, by name. Python unpacks plain tuples fastest."""


class _Tables:
    """The tables in which modules hold their submodules, parameters and buffers."""

    def __init__(self, modules: list[nn.Module]):
        self._of_modules = [module._modules for module in modules]
        self._of_tensors = [table for module in modules for table in (module._parameters, module._buffers)]
        self._modules = [list(table.values()) for table in self._of_modules]
        self._sizes = list(map(len, self._of_tensors))

    def are_as_before(self) -> bool:
        """Whether the submodules are the same, and no table of tensors has more entries or fewer."""
        if list(map(len, self._of_tensors)) != self._sizes:
            return False
        return [list(table.values()) for table in self._of_modules] == self._modules  # a module equals only itself


class ModuleLeaves:
    """The parameters and buffers of a module, by the names that they have in the plain module, tied ones once."""

    def __init__(self, module: nn.Module):
        self._module = module
        self._places: list[_Place] = []
        """Where each leaf stands."""
        self._ties: list[tuple[_Place, int]] = []
        """Where leaves stand again, and which."""
        self._empty: list[_Place] = []
        """Where there is None now."""
        names: list[str] = []
        numbers: dict[int, int] = {}  # of leaves, by the `id` of the tensor
        paths = list(_modules(module))
        self._gathering = [submodule for _, submodule in paths if _is_gathering(submodule)]
        self._drop_gathered()
        self._tables = _Tables([submodule for _, submodule in paths])
        for path, place, tensor in _tensors(paths):
            if tensor is None:
                self._empty.append(place)
            elif id(tensor) in numbers:
                self._ties.append((place, numbers[id(tensor)]))
            else:
                numbers[id(tensor)] = len(names)
                names.append(".".join(filter(None, (path, place[1]))))
                self._places.append(place)
        self.names = tuple(names)

    def _drop_gathered(self) -> None:
        """Let FSDP put its own parameters back, where a forward has left gathered copies."""
        for submodule in self._gathering:
            submodule.reshard()  # type: ignore[operator]  # a method of FSDP's

    def read(self, node: Any) -> list[Any] | None:
        if node is not self._module or not self._tables.are_as_before():
            return None
        self._drop_gathered()
        if self._empty and any(table.get(name) is not None for table, name in self._empty):
            return None
        try:
            leaves = [table[name] for table, name in self._places]
        except KeyError:
            return None
        if type(None) in set(map(type, leaves)) or any(t.get(name) is not leaves[i] for (t, name), i in self._ties):
            return None
        return leaves

    def restoring(self, leaves: list[Any]) -> list[Write]:
        """What puts leaves back into their places, where others stand there now; None leaves a place alone."""
        tied = [(place, leaves[i]) for place, i in self._ties]
        return [
            partial(setitem, table, name, leaf)
            for (table, name), leaf in [*zip(self._places, leaves, strict=True), *tied]
            if leaf is not None and name in table and table[name] is not leaf
        ]

    def rebuild(self, leaves: list[Any]) -> dict[str, Any]:
        return {name: leaf for name, leaf in zip(self.names, leaves, strict=True) if leaf is not None}


def _tensors(paths: list[tuple[str, nn.Module]]) -> Iterator[tuple[str, _Place, Any]]:
    """The path of a submodule, and each parameter and buffer that it has itself, with its place; None among them."""
    for path, submodule in paths:
        for table in (submodule._parameters, submodule._buffers):
            for name, tensor in table.items():
                yield path, (table, name), tensor


def _modules(module: nn.Module, path: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, nn.Module]]:
    """All submodules with their paths, in which wrappers leave no trace."""
    seen = set() if seen is None else seen
    if id(module) in seen:
        return
    seen.add(id(module))
    yield path, module
    for name, child in module._modules.items():
        if child is not None:
            wrapped = name in _WRAPPERS or (name == "module" and isinstance(module, _PARALLEL))
            yield from _modules(child, path if wrapped else ".".join(filter(None, (path, name))), seen)


def is_dense(tensor: torch.Tensor) -> bool:
    """Whether the elements lie in memory as numbers: not those of sparse, nested and quantised tensors."""
    if type(tensor) in _PLAIN:
        return tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_nested
    if nn.parameter.is_lazy(tensor) or is_distributed(tensor):
        return True
    made = is_traceable_wrapper_subclass(tensor)  # of other tensors, as quantised weights are
    return not made and tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_nested


def lacking(tensor: torch.Tensor) -> str:
    """Why a tensor has no values, in words; empty if it has some."""
    if nn.parameter.is_lazy(tensor):
        return "is lazy and has no shape yet: run the model once before averaging it."
    return "is on the meta device and has no values: materialize the model first." if tensor.is_meta else ""


def duplicate(tensor: torch.Tensor) -> torch.Tensor:
    """A copy of a tensor of any kind; what has no values yet is given as it is."""
    return tensor if nn.parameter.is_lazy(tensor) else tensor.detach().clone()


# --- distributed tensors ---------------------------------------------------------------------------------------------
def _distributed() -> Any:
    """`DTensor`, if anybody can have made one."""
    if not torch.distributed.is_available():
        return ()
    from torch.distributed.tensor import DTensor

    return DTensor


_PLAIN = {torch.Tensor, nn.Parameter}


def is_distributed(tensor: Any) -> bool:
    return type(tensor) not in _PLAIN and isinstance(tensor, _distributed())


def local(tensor: Any) -> torch.Tensor:
    part: torch.Tensor = tensor.to_local() if is_distributed(tensor) else tensor
    return part


def _is_gathering(module: Any) -> bool:
    """Whether FSDP may have left the parameters gathered after a forward: copies, that it drops when told to."""
    fsdp = sys.modules.get("torch.distributed.fsdp")  # it is not imported to ask
    return fsdp is not None and isinstance(module, getattr(fsdp, "FSDPModule", ()))


def placed(tensor: Any) -> Any:
    """On which device a tensor is, and how it is laid out over those of a mesh."""
    return (tensor.device_mesh, tensor.placements) if is_distributed(tensor) else tensor.device


def part_of(tensor: Any) -> Part | None:
    """What is known of a tensor that FSDP, tensor parallelism or DeepSpeed has divided among processes."""
    if type(tensor) is torch.Tensor:
        return None
    if is_distributed(tensor):
        return Part("a DTensor, which lies on several processes", _BY_ITS_STATE)
    if hasattr(tensor, "ds_id") and tensor.numel() == 0 and getattr(tensor, "ds_numel", 1) > 0:  # full while gathered
        return Part("a parameter that DeepSpeed divides among processes (ZeRO-3)", _BY_GATHERING, held=False)
    if getattr(tensor, "_fsdp_flattened", False) and _is_shard(tensor):
        return Part("a shard of FSDP1 (FullyShardedDataParallel)", f"{_BY_THE_MODEL} {_BY_FSDP2}", _rank())
    return None


_BY_ITS_STATE = "Save avg.state_dict() with torch.distributed.checkpoint, on all processes."
_BY_THE_MODEL = "Save the full state dict of the model inside of `with avg.swapped():`, on all processes."
_BY_GATHERING = "Make, update and save the average inside of `with deepspeed.zero.GatheredParameters(...):`."
_BY_FSDP2 = "Or use FSDP2 (fully_shard), and save avg.state_dict() with torch.distributed.checkpoint."


def _is_shard(tensor: Any) -> bool:
    """Whether a tensor of FSDP1 may be a part: of a flat parameter it is known, of a view of one it is not."""
    if sum(getattr(tensor, "_numels_with_padding", ())) == tensor.numel() > 0:
        return False
    return torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1


def _rank() -> str:
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return ""
    return f"rank {torch.distributed.get_rank()} of {torch.distributed.get_world_size()}"


def layouts(tensors: list[Any]) -> list[Any] | None:
    """Those of tensors of which some may be distributed; None if none can be."""
    return None if set(map(type, tensors)) <= _PLAIN else list(map(placed, tensors))


def spread(part: torch.Tensor, like: Any) -> Any:
    if not is_distributed(like):
        return part
    return _distributed().from_local(
        part, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


def compact(target: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The part of an expanded tensor whose elements each have a place in memory, and the values for it.

    Raises `ValueError` where different values are for one place, and for other tensors that overlap themselves.
    """
    if not is_dense(target) or not overlaps(target.shape, target.stride(), 1):
        return target, value
    index = tuple(slice(0, 1) if step == 0 else slice(None) for step in target.stride())
    part, values = target[index], value[index]
    if overlaps(part.shape, part.stride(), 1) or not torch.equal(value, values.expand(value.shape)):
        raise ValueError("several elements of an expanded tensor are one number in memory, which cannot be written.")
    return part, values


def extent(tensor: torch.Tensor) -> tuple[int, int] | None:
    """The addresses between which the elements of a tensor lie; None if it has none of its own."""
    if not is_dense(tensor) or is_distributed(tensor) or not tensor.numel() or not (start := tensor.data_ptr()):
        return None
    last = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    return start, start + (last + 1) * tensor.element_size()


def reattaching(tensor: torch.Tensor, memory: torch.Tensor) -> Write | None:
    """What gives a tensor its memory back, if it has another, or another dtype, shape or device; None if it has not."""
    if type(tensor) not in _PLAIN or not is_dense(tensor):
        return None
    forms = [(t.dtype, t.device, t.shape, t.stride(), t.data_ptr()) for t in (tensor, memory)]
    return None if forms[0] == forms[1] else partial(setattr, tensor, "data", memory)


def addresses(leaves: list[Any]) -> list[Any] | None:
    """Where the data of tensors lie, and how: with the number of elements, strides tell shapes apart.

    Modules that move, are cast or are pruned keep their tensors and exchange the data.
    """
    at, size, step = torch.Tensor.data_ptr, torch.Tensor.numel, torch.Tensor.stride
    try:
        return [*map(at, leaves), *map(size, leaves), *map(step, leaves)]
    except (TypeError, RuntimeError):  # no tensor, or one without a place of its own, as distributed ones
        return None


# --- on the host -----------------------------------------------------------------------------------------------------
class PinnedStage:
    """Brings tensors to pinned memory, which a device writes while the program goes on."""

    def __init__(self) -> None:
        self._copies: list[torch.Tensor] = []
        self._events: list[Any] = []

    @torch.inference_mode(False)  # the copies are kept
    @torch.no_grad()
    def put(self, arrays: list[torch.Tensor]) -> None:
        if [(c.shape, c.dtype) for c in self._copies] != [(a.shape, a.dtype) for a in arrays]:
            self._copies = [torch.empty_like(a, device="cpu", pin_memory=a.device.type != "cpu") for a in arrays]
        for copy, array in zip(self._copies, arrays, strict=True):
            copy.copy_(array, non_blocking=True)
        devices = {array.device for array in arrays if array.device.type != "cpu"}
        self._events = [_recorded(device) for device in devices]

    def take(self) -> list[torch.Tensor]:
        for event in self._events:
            event.synchronize()
        return self._copies

    def moved(self, scalar: Any) -> Any:
        return scalar.cpu() if isinstance(scalar, torch.Tensor) else scalar


def _recorded(device: torch.device) -> Any:
    """What is done once all that the device was told so far is."""
    event = torch.Event(device)
    event.record(torch.accelerator.current_stream(device))
    return event
