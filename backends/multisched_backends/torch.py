"""torch: state is written in place, outside autograd; programs run eagerly, so that gradients reach the outputs."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import array_api_compat.torch as xp
import numpy as np
import torch

from multisched.errors import DeviceError, DTypeError
from multisched.runtime.protocol import Cell, Container, LeafRuns, Part, Parts, Stage, Step, Write
from multisched_backends import host, torch_blend, torch_trees
from multisched_backends.array_api import ArrayApiBackend

# torch's own function where it agrees with the standard once dtypes agree, as they do in a program: it costs a third.
_NATIVE = ("where", "abs", "exp", "log", "sqrt", "sin", "cos", "tanh", "negative", "square", "isnan", "logical_not")

_overwrite = torch.Tensor.copy_


class TorchBackend(ArrayApiBackend):
    """Tensors on any device."""

    in_place = True
    default_int = "int64"
    sums_unsigned = False  # it can only store uint64, and sums uint8 in int64

    def __init__(self) -> None:
        super().__init__(xp, "torch")
        self.array_types = (torch.Tensor,)

    def dtype(self, name: str) -> Any:
        return getattr(torch, name) if self.supports(name) else super().dtype(name)

    def supports(self, dtype: str) -> bool:
        return dtype == "bfloat16" or super().supports(dtype)

    def device(self, device: Any) -> Any:
        if device is None or isinstance(device, torch.device):
            return device
        try:
            found = torch.device(device)
            torch.empty(0, device=found)
        except (RuntimeError, TypeError, AssertionError) as cause:
            reason = str(cause).partition("\n")[0]
            raise DeviceError(f"The backend 'torch' has no device {device!r}: {reason}") from cause
        return found

    def device_of(self, array: Any) -> Any:
        return array.device

    def owns(self, value: object) -> bool:
        return isinstance(value, torch.Tensor)

    def asarray(self, value: Any, dtype: str, device: Any = None) -> Any:
        with torch.inference_mode(False), torch.no_grad():  # state must stay writable when inference mode ends
            tensor = value.detach() if self.owns(value) else _from_host(value)
            return tensor.to(dtype=self.dtype(dtype), device=self.device(device), copy=True)

    def as_input(self, value: Any, dtype: str, device: Any = None) -> Any:
        tensor = value if self.owns(value) else _from_host(value)
        return tensor.to(dtype=self.dtype(dtype), device=self.device(device))

    def to_numpy(self, array: Any) -> np.ndarray:
        array = array.detach().cpu()
        if array.dtype == torch.bfloat16:
            import ml_dtypes

            return np.array(array.view(torch.int16).numpy().view(ml_dtypes.bfloat16))
        return np.array(array.resolve_conj().resolve_neg().numpy())

    def copy(self, array: Any) -> Any:
        return array.clone(memory_format=torch.contiguous_format)

    def stop_gradient(self, array: Any) -> Any:
        return array.detach()

    def _reinterpret(self, array: Any, dtype: Any) -> Any:
        return array.view(dtype)

    def operation(self, name: str) -> Callable[..., Any]:
        if name == "astype":
            return torch.Tensor.to
        return getattr(torch, name) if name in _NATIVE else super().operation(name)

    def compile(self, run: Callable[..., Any], consumed: int, jit: bool) -> Callable[..., Any]:
        def differentiable(*arrays: Any) -> Any:
            for array in arrays:
                if array.requires_grad and torch.is_grad_enabled():
                    # What backward needs of the state must outlive its being overwritten.
                    return run(*(t if t.requires_grad else t.clone() for t in arrays))
            return run(*arrays)

        return differentiable

    def overwrite(self, cell: Cell, new: Any) -> None:
        cell.array.copy_(new.detach() if new.requires_grad else new)

    def overwriting(self, arrays: Sequence[Any], new: Sequence[Any]) -> Iterable[object]:
        return map(_overwrite, arrays, [_dense(value) for value in new])

    def unreadable(self, array: Any) -> str | None:
        if array.is_meta:
            return "it is on the device 'meta', where tensors have no memory"
        if torch.compiler.is_compiling():  # which knows no storages
            return None
        if array.layout is torch.strided and array.numel() and not array.untyped_storage().nbytes():
            return "its storage has been freed (resized to 0)"
        return None

    # --- averages of whole models
    def container(self, node: Any) -> Container | None:
        return torch_trees.ModuleLeaves(node) if isinstance(node, torch.nn.Module) else None

    def signature(self, leaves: list[Any]) -> Any:
        each = [x.shape for x in leaves], [x.dtype for x in leaves], [x.device for x in leaves]
        return (*each, torch_trees.layouts(leaves))

    def placed(self, array: Any) -> Any:
        return torch_trees.placed(array)

    def addresses(self, leaves: list[Any]) -> list[Any] | None:
        return torch_trees.addresses(leaves)

    def is_dense(self, array: Any) -> bool:
        return torch_trees.is_dense(array)

    def lacking(self, array: Any) -> str:
        return torch_trees.lacking(array)

    def duplicate(self, array: Any) -> Any:
        with torch.inference_mode(False), torch.no_grad():
            return torch_trees.duplicate(array)

    def pack_key(self, array: Any) -> Hashable | None:
        alone = torch_trees.is_distributed(array) or not array.is_contiguous()
        return None if alone else (array.dtype, array.device)

    def local(self, array: Any) -> Any:
        return torch_trees.local(array)

    def part_of(self, array: Any) -> Part | None:
        return torch_trees.part_of(array)

    def spread(self, part: Any, like: Any) -> Any:
        return torch_trees.spread(part, like)

    def blend(self, old: list[Any], new: LeafRuns, share: Any, where: Any = None) -> list[Any]:
        with self.committing():
            host.perform(self.blend_writes(old, new, share, where))
        return old

    def blend_writes(self, old: list[Any], new: LeafRuns, share: Any, where: Any = None) -> list[Write]:
        with _inference(False), _below_autograd():
            return torch_blend.blend(old, new, share, where)

    def blend_by(self, step: Step, old: list[Parts], new: LeafRuns, *scalars: Any) -> list[Parts]:
        with self.committing():
            host.perform(self.blend_by_writes(step, old, new, *scalars))
        return old

    def blend_by_writes(self, step: Step, old: list[Parts], new: LeafRuns, *scalars: Any) -> list[Write]:
        def run() -> None:
            with torch.inference_mode(False), torch.no_grad():
                torch_blend.blend_by(step, old, new, scalars)

        return host.apart([torch_blend.on_its_stream(run, old[0][0])])

    @contextmanager
    def committing(self, targets: Iterable[Any] = ()) -> Iterator[None]:
        inference = any(map(torch.Tensor.is_inference, targets))  # such tensors can be written in this mode alone
        with _inference(inference), _below_autograd(), torch._C.DisableTorchFunction():  # which would be Python
            try:
                yield
            except BaseException:
                host.settle()
                raise

    def stage(self) -> Stage:
        return torch_trees.PinnedStage()

    def write(self, target: Any, value: Any) -> None:
        with torch.no_grad():
            target.copy_(value)

    def writer(self, target: Any, value: Any) -> Write:
        target, value = torch_trees.compact(target, value)
        return partial(target.copy_, value)

    def extent(self, array: Any) -> tuple[int, int] | None:
        return torch_trees.extent(array)

    def memory(self, array: Any) -> Any:
        return array.data

    def reattaching(self, array: Any, memory: Any) -> Write | None:
        return torch_trees.reattaching(array, memory)


def _dense(new: torch.Tensor) -> torch.Tensor:
    """A new value as it can be written for certain; a sparse or empty one comes of such an input."""
    if new.is_meta or new.layout is not torch.strided:
        raise DTypeError(f"The new value of a variable must be a dense tensor with values, got {new!r}.")
    return new.detach() if new.requires_grad else new


# An interrupt in `torch.no_grad` or `torch.inference_mode`, which are Python, may leave gradients off for good.
# These are the same in C; the first is what torch's own operators use.
_below_autograd: Any = getattr(torch._C, "_AutoDispatchBelowAutograd", torch.no_grad)
_inference: Any = getattr(torch._C, "_InferenceMode", torch.inference_mode)


def _from_host(value: Any) -> torch.Tensor:
    array = np.asarray(value)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()
    return torch.from_numpy(array)
