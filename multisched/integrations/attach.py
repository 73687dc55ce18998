"""An average that follows the steps of a torch optimizer by itself, by a hook after each of them."""

import importlib
from types import TracebackType
from typing import Any

from multisched.errors import OptimizerError, shown
from multisched.trees.average import Average

__all__ = ["Attachment"]

NO_PARTS = (
    "AverageCallback does not serve a model that is divided among processes, since the trainer saves what one of them "
    "has. Train without it, and attach ms.Average(model, rule) to the optimizer once the model is divided"
)
"""What the callbacks of trainers say of one."""


class Attachment:
    """An average that follows an optimizer; a context manager, which detaches it."""

    def __init__(self, hook: Any):
        self._hook = hook

    def detach(self) -> None:
        """Leave the average as it is from now on; a second call changes nothing."""
        self._hook.remove()

    def __enter__(self) -> "Attachment":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.detach()


def attach(average: Average, optimizer: Any) -> Attachment:
    """Update an average after every step that a torch optimizer takes, from now on.

        average.update() after each optimizer.step(), with the parameters as that step left them

    A step that `torch.amp.GradScaler` skips, since a gradient is infinite or NaN, does not count: neither where it does
    not call the optimizer, nor where a fused optimizer skips the step by itself; the latter costs no host sync. A
    compiled step (`torch.compile`) goes on after the hook.

    Parameters
    ----------
    average:
        A `ms.Average` of a module, or of a tree of tensors that are written in place.
    optimizer:
        A `torch.optim.Optimizer`, or one that Accelerate or Lightning wrapped. Any may be attached to several averages,
        and an average to several optimizers, each step of which counts.

    Returns
    -------
    A handle, whose `detach()` ends it; as a context manager, at the end of the block.

    Raises
    ------
    OptimizerError:
        This is no torch optimizer, or one whose step calls no hooks, since it steps another one inside.

    >>> import numpy as np
    >>> import multisched as ms
    >>> ms.Average(np.zeros(2), ms.ema(0.9)).attach("adam")
    Traceback (most recent call last):
    multisched.errors.OptimizerError: attach takes a torch optimizer, got 'adam' of type str.
    """
    inner = innermost(optimizer)
    if not hasattr(inner, "register_step_post_hook"):
        raise OptimizerError(f"attach takes a torch optimizer, got {shown(optimizer)}.")
    check_hooked(inner, "average.attach({})")

    def after_step(stepped: Any, *_: Any) -> None:
        found_inf = getattr(stepped, "found_inf", None)  # of GradScaler, for optimizers that skip the step themselves
        average.update(where=None if found_inf is None else found_inf == 0)

    apart: Any = importlib.import_module("torch").compiler.disable
    return Attachment(inner.register_step_post_hook(apart(after_step)))


def check_hooked(optimizer: Any, call: str) -> None:
    """Raise `OptimizerError` for an optimizer that takes hooks and never calls them.

    torch has a class call hooks when one of it is initialised. A wrapper that leaves this out, as timm's `Lookahead`
    does, and steps an optimizer inside, has the methods that register hooks all the same.
    """
    base: Any = importlib.import_module("torch").optim.Optimizer
    kind = type(optimizer)
    steps = [vars(each)["step"] for each in kind.__mro__ if "step" in vars(each) and each is not base]
    if not isinstance(optimizer, base) or any(getattr(step, "hooked", False) for step in steps):
        return
    inside = [name for name, value in vars(optimizer).items() if isinstance(value, base)]
    line = call.format(f"optimizer.{inside[0] if inside else 'base_optimizer'}")
    raise OptimizerError(
        f"The step of {kind.__name__} calls no hooks, since it leaves out Optimizer.__init__, and none would be "
        f"noticed. Give the optimizer that it steps inside:\n    {line}"
    )


def innermost(optimizer: Any) -> Any:
    """The optimizer that has the hooks, inside of the wrappers of Accelerate and Lightning."""
    while "param_groups" not in getattr(optimizer, "__dict__", {}) and hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer
