"""The updates that variables record of themselves, and what is listed of the current graph."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from multisched.arrays import is_number, is_symbolic
from multisched.errors import BackendMismatch, NotAVariable, UpdateShapeError, UpdateTypeError, shown
from multisched.frontend.variables import Variable, assign
from multisched.graph.infer import promote_number
from multisched.graph.recorder import plain_number
from multisched.graph.scope import current_graph
from multisched.graph.tensor import Op, Placeholder, Tensor
from multisched.runtime.commit import commit

__all__ = ["add_updates", "get_ops", "get_placeholders", "get_updates", "get_variables", "reset_variables"]


def get_updates(
    name: str = "*", scope: str = "*", variables: Iterable[Variable] | None = None
) -> dict[Variable, Tensor]:
    """The recorded updates, `{variable: its value after the update}`, in the order of declaration.

    `name` and `scope` are globs over those of the variable; `variables` takes these alone, in their order, of any
    graph. Nothing is applied before a function is built with them.

    An update is listed as long as somebody holds its variable, what was declared with it, or a tensor made of either.
    Functions that were built with it do not count: where the cell of a notebook is run again, its names are bound to
    new variables, and the updates of those from its last run are gone, though the function of the last run is there.
    What a notebook keeps in its history (`Out`, `_`) is held; `ms.current_graph().reset()` forgets it, too. The new
    variables have new names, as `EMA` in `/ExponentialMovingAverage_1/`; after `reset()` they have the old ones.

    >>> import multisched as ms
    >>> ms.current_graph().reset()
    >>> lr = ms.PiecewiseConstant(0.1, {4: 1, 8: 2})
    >>> list(ms.get_updates(scope="/Piecewise*"))
    [Variable(name=step, shape=(), dtype=int32, trainable=False, scope=/PiecewiseConstant/)]
    """
    if variables is None:
        found = get_variables(name, scope)
    else:
        given = dict.fromkeys(map(checked_variable, variables))
        found = [v for v in given if fnmatchcase(v.name, name) and fnmatchcase(v.scope, scope)]
    return {v: v.recorded for v in found if v.recorded is not None}


def add_updates(updates: Mapping[Variable, Any]) -> None:
    """Record updates of variables, in place of those recorded before.

    Raises `NotAVariable`, `UpdateShapeError`, `UpdateTypeError` or `BackendMismatch`; then none of them is recorded.
    """
    commit([partial(setattr, v, "recorded", tensor) for v, tensor in checked_updates(updates).items()])


def get_variables(name: str = "*", scope: str = "*", *, trainable: bool | None = None) -> list[Variable]:
    """The variables of the current graph whose name and scope match two globs, in the order of declaration."""
    found = current_graph().find(Variable, name, scope)
    return [v for v in found if trainable is None or v.trainable == trainable]


def get_placeholders(name: str = "*", scope: str = "*") -> list[Placeholder]:
    """The placeholders of the current graph whose name and scope match two globs, in the order of declaration."""
    return current_graph().find(Placeholder, name, scope)


def get_ops(name: str = "*", scope: str = "*") -> list[Op]:
    """The operations of the current graph whose name and scope match two globs, in the order of declaration."""
    return current_graph().find(Op, name, scope)


def reset_variables(name: str = "*", scope: str = "*") -> None:
    """Set the variables that match two globs back to their first values."""
    variables = get_variables(name, scope)
    assign({v: v._initial() for v in variables})


def checked_variable(variable: Any) -> Variable:
    if not isinstance(variable, Variable):
        raise NotAVariable(f"Only variables can be updated, got {shown(variable)}. Declare one: ms.Variable(init).")
    return variable


def checked_updates(updates: Any) -> dict[Variable, Tensor]:
    """`updates` as tensors of exactly the shape, dtype and backend of their variables."""
    if not isinstance(updates, Mapping):
        raise NotAVariable(f"Updates are a dict {{variable: tensor}}, got {shown(updates)}.")
    return {checked_variable(v): _checked_update(v, value) for v, value in updates.items()}


def _checked_update(variable: Variable, value: Any) -> Tensor:
    xp, value = variable.xp, plain_number(value)
    if is_symbolic(value) and value.backend is not variable.backend:
        raise BackendMismatch(
            f"The update {value} is of backend {value.backend.name!r}, {variable} of backend {variable.backend.name!r}."
        )
    weak = is_number(value) and (isinstance(value, bool) or variable.dtype != "bool")
    fits = weak and isinstance(value, bool) == (variable.dtype == "bool")
    if fits and promote_number(variable.dtype, value) == variable.dtype:
        tensor: Tensor = xp.asarray(value, dtype=variable.dtype)
    else:
        tensor = xp.asarray(value)
    if tensor.shape != variable.shape:
        raise UpdateShapeError(f"The update of {variable} has another shape: {tensor.shape}, from {value!r}.")
    if tensor.dtype != variable.dtype:
        raise UpdateTypeError(
            f"The update of {variable} has another dtype: {tensor.dtype}, from {value!r}. "
            f"Cast it: xp.astype(tensor, {variable.dtype!r}) with xp = tensor.__array_namespace__()."
        )
    return tensor
