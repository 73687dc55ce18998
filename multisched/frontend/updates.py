"""The recorded updates of variables, and lists of what the current graph contains."""

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

    `name` and `scope` are globs that the variable's name and scope must match. `variables` selects these variables
    alone, in the given order and of any graph. An update is applied only by a function that is built with it.

    An update is listed as long as the program refers to its variable, to a tensor that was declared with it, or to a
    tensor made of either. A function that was built with the update does not count. So when a notebook cell is run
    again and binds its names to new variables, the updates of the old variables are no longer listed, even if the old
    function is still there. The history of a notebook (`Out`, `_`) counts; `ms.current_graph().reset()` forgets
    everything. The new variables have new paths, such as `/ExponentialMovingAverage_1/EMA`; after `reset()` they have
    the old ones.

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
    """Record updates of variables, replacing those recorded before.

    Raises `NotAVariable`, `UpdateShapeError`, `UpdateTypeError` or `BackendMismatch`, and then records none of them.
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
    """Set the variables whose name and scope match two globs back to their first values."""
    variables = get_variables(name, scope)
    assign({v: v._initial() for v in variables})


def checked_variable(variable: Any) -> Variable:
    """The variable, if it is one; else raises `NotAVariable`."""
    if not isinstance(variable, Variable):
        raise NotAVariable(
            f"Only variables can be updated, got {shown(variable)}. Declare a variable: ms.Variable(init)."
        )
    return variable


def checked_updates(updates: Any) -> dict[Variable, Tensor]:
    """The updates as tensors that have the shape, dtype and backend of their variables."""
    if not isinstance(updates, Mapping):
        raise NotAVariable(f"Updates must be a dict {{variable: tensor}}, got {shown(updates)}.")
    return {checked_variable(v): _checked_update(v, value) for v, value in updates.items()}


def _checked_update(variable: Variable, value: Any) -> Tensor:
    xp, value = variable.xp, plain_number(value)
    if is_symbolic(value) and value.backend is not variable.backend:
        raise BackendMismatch(
            f"The update {value} is of backend {value.backend.name!r}, but {variable} is of backend "
            f"{variable.backend.name!r}. Declare both with the same backend=."
        )
    weak = is_number(value) and (isinstance(value, bool) or variable.dtype != "bool")
    fits = weak and isinstance(value, bool) == (variable.dtype == "bool")
    if fits and promote_number(variable.dtype, value) == variable.dtype:
        tensor: Tensor = xp.asarray(value, dtype=variable.dtype)
    else:
        tensor = xp.asarray(value)
    if tensor.shape != variable.shape:
        raise UpdateShapeError(f"The update of {variable} must have its shape, got {tensor.shape} from {value!r}.")
    if tensor.dtype != variable.dtype:
        raise UpdateTypeError(
            f"The update of {variable} must have its dtype, got {tensor.dtype} from {value!r}. "
            f"Cast it: xp.astype(tensor, {variable.dtype!r}) with xp = tensor.__array_namespace__()."
        )
    return tensor
