"""An average that follows the steps of a torch optimizer by itself, by a hook after each of them."""

import importlib
from types import TracebackType
from typing import Any

from multisched.errors import OptimizerError, shown
from multisched.trees.average import Average, methods

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
        This is no torch optimizer.

    >>> import numpy as np
    >>> import multisched as ms
    >>> ms.Average(np.zeros(2), ms.ema(0.9)).attach("adam")
    Traceback (most recent call last):
    multisched.errors.OptimizerError: attach takes a torch optimizer, got 'adam' of type str.
    """
    inner = innermost(optimizer)
    if not hasattr(inner, "register_step_post_hook"):
        raise OptimizerError(f"attach takes a torch optimizer, got {shown(optimizer)}.")

    def after_step(stepped: Any, *_: Any) -> None:
        found_inf = getattr(stepped, "found_inf", None)  # of GradScaler, for optimizers that skip the step themselves
        average.update(where=None if found_inf is None else found_inf == 0)

    apart: Any = importlib.import_module("torch").compiler.disable
    return Attachment(inner.register_step_post_hook(apart(after_step)))


methods["attach"] = attach


def innermost(optimizer: Any) -> Any:
    """The optimizer that has the hooks, inside of the wrappers of Accelerate and Lightning."""
    while "param_groups" not in getattr(optimizer, "__dict__", {}) and hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer
