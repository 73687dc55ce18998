"""An average that follows the steps of a torch optimizer by itself, by a hook after each of them."""

import importlib
from collections.abc import Callable
from types import TracebackType
from typing import Any

from multisched.errors import OptimizerError, shown

__all__ = ["Attachment"]


class Attachment:
    """An average that follows an optimizer; a context manager, which detaches it."""

    def __init__(self, hook: Any):
        self._hook = hook

    def detach(self) -> None:
        """Stop updating the average; a second call changes nothing."""
        self._hook.remove()

    def __enter__(self) -> "Attachment":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.detach()


def update_after_steps(update: Callable[..., None], optimizer: Any) -> Attachment:
    """Call the `update` of an average after every step that a torch optimizer takes; see `Average.attach`."""
    inner = innermost(optimizer)
    if not hasattr(inner, "register_step_post_hook"):
        raise OptimizerError(f"attach takes a torch optimizer, got {shown(optimizer)}.")
    check_hooked(inner, "average.attach({})")

    def after_step(stepped: Any, *_: Any) -> None:
        found_inf = getattr(stepped, "found_inf", None)  # of GradScaler, for optimizers that skip the step themselves
        update(where=None if found_inf is None else found_inf == 0)

    uncompiled: Any = importlib.import_module("torch").compiler.disable
    return Attachment(inner.register_step_post_hook(uncompiled(after_step)))


def check_hooked(optimizer: Any, call: str) -> None:
    """Raise `OptimizerError` for an optimizer that takes hooks and never calls them.

    torch makes a class call hooks when one of its instances is initialised. A wrapper that skips this, as timm's
    `Lookahead` does, and steps an optimizer inside, has the methods that register hooks all the same.
    """
    base: Any = importlib.import_module("torch").optim.Optimizer
    kind = type(optimizer)
    steps = [vars(each)["step"] for each in kind.__mro__ if "step" in vars(each) and each is not base]
    if not isinstance(optimizer, base) or any(getattr(step, "hooked", False) for step in steps):
        return
    inside = [name for name, value in vars(optimizer).items() if isinstance(value, base)]
    line = call.format(f"optimizer.{inside[0] if inside else 'base_optimizer'}")
    raise OptimizerError(
        f"The step of {kind.__name__} calls no hooks, since it leaves out Optimizer.__init__, so a hook would never "
        f"run. Give the optimizer that it steps inside:\n    {line}"
    )


def innermost(optimizer: Any) -> Any:
    """The optimizer that has the hooks, inside the wrappers of Accelerate and Lightning."""
    while "param_groups" not in getattr(optimizer, "__dict__", {}) and hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer
