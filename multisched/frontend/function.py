"""Functions: they compute outputs of a graph and apply updates of its variables, compiled for one backend."""

from collections.abc import Mapping
from traceback import clear_frames
from typing import Any, NoReturn

from multisched.arrays import Array
from multisched.errors import (
    DuplicatePath,
    StateError,
    TensorConversionError,
    UpdateShapeError,
    UpdateTypeError,
    shown,
)
from multisched.frontend.call import write_call
from multisched.frontend.inputs import Inputs, checked_inputs
from multisched.frontend.structure import Outputs, flatten
from multisched.frontend.updates import checked_updates
from multisched.frontend.variables import Variable, assign, values_of
from multisched.graph.program import Program
from multisched.graph.tensor import Placeholder, Tensor, common_backend
from multisched.runtime.commit import exchanging
from multisched.runtime.protocol import Backend
from multisched.runtime.registry import get_backend

__all__ = ["Function", "function"]

State = dict[str, Array]
"""The values of a function's variables by their paths, `"/scope/name"`."""


class Function:
    """A compiled function of placeholders that reads variables and applies updates; made by `multisched.function`."""

    inputs: tuple[Placeholder, ...]
    """The placeholders, in the order of the arguments."""
    backend: Backend
    """The backend of all tensors of the function."""
    updated: tuple[Variable, ...]
    """The variables that a call changes."""
    read: tuple[Variable, ...]
    """The variables that a call reads and does not change."""

    def __init__(
        self,
        inputs: tuple[Placeholder, ...],
        outputs: Outputs,
        updates: Mapping[Variable, Any] | None,
        jit: bool,
    ):
        self.inputs = checked_inputs(inputs)
        tensors, self._rebuild = flatten(outputs)
        self._single, self._plain = len(tensors) == 1, isinstance(outputs, Tensor)
        changes = checked_updates({} if updates is None else updates)
        found: Any = common_backend(*self.inputs, *tensors, *changes)
        self.backend = get_backend() if found is None else found
        program = Program(self.inputs, tensors, changes)
        self.updated = tuple(v.stand_in() for v in program.updated)
        self.read = tuple(v.stand_in() for v in program.read)
        self._outputs = len(tensors)
        cells = [v.cell for v in (*self.updated, *self.read)]
        device = self.backend.device_of(cells[0].array) if cells else None
        self._inputs = Inputs(self.inputs, self.backend, device)
        self._pure = program.bind(
            self.backend.operation,
            self.backend.dtype,
            lambda value, dtype: self.backend.asarray(value, dtype, device),
            self.backend.scalars_decay,
            self.backend.in_place,
        )
        run = exchanging(self.backend, self._pure, [v.cell for v in self.updated], jit)
        self._call = write_call(self._inputs, self.updated, self.read, run, len(tensors))

    @property
    def source(self) -> str:
        """The program that runs at each call, as Python."""
        return self._pure.source

    def __repr__(self) -> str:
        return repr(self._inputs)

    def __reduce__(self) -> NoReturn:
        raise TensorConversionError(
            f"{self!r} is compiled for this process and cannot be pickled or copied. Build it again from the same "
            "declarations, and carry its state over:  state = f.state  in one process,  f.state = state  in the other."
        )

    def __call__(self, *arrays: Any, device_get: bool = False) -> Any:
        """Compute the outputs from the state before the call, then apply all updates together.

        The outputs are arrays of the backend, or NumPy arrays with `device_get=True`, and share no memory with
        anything else. An input is cast to the dtype of its placeholder, within its kind or to a wider kind. An input
        that does not fit raises `MissingInput`, `ExtraInput`, `InputShapeError`, `InputTypeError` or
        `TracedInputError`, and leaves every variable as it was.
        """
        outputs = self._call(arrays)
        if self._plain and not device_get:
            return outputs
        values = (outputs,) if self._single else outputs
        return self._rebuild([self.backend.to_numpy(v) for v in values] if device_get else values)

    # --- the same thing as a pure function
    @property
    def _paths(self) -> dict[str, Variable]:
        paths: dict[str, Variable] = {}
        for variable in sorted((*self.updated, *self.read), key=lambda v: v.cell.lock.serial):
            if variable.path in paths:
                raise DuplicatePath(
                    f"Two variables of this function have the path {variable.path!r}: they were declared in two "
                    "graphs, or before and after a reset of one. To use the state by path, rename one of them."
                )
            paths[variable.path] = variable
        return paths

    @property
    def state(self) -> State:
        """Copies of the variables' values, by path. Assigning a state of the same form restores the values."""
        paths = self._paths
        return values_of(paths)

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        paths = self._matched(state)
        assign({v: v._accepted(state[path], f"The state of {v}") for path, v in paths.items()})

    def pure(self, state: Mapping[str, Any], *arrays: Any) -> tuple[Any, State]:
        """The function in pure form: `(outputs, new_state)`, computed from a `state` of the form of `f.state`.

        It reads and writes no variable, so it can be used inside `jax.jit`, `lax.scan`, `vmap`, `grad` or
        `torch.compile`. No gradient flows into the new state.
        """
        paths = self._matched(state)
        given = self._inputs.all_converted(arrays)
        before = {
            path: self._inputs.taken(v, state[path], f"The state of {v}", UpdateShapeError, UpdateTypeError, pure=True)
            for path, v in paths.items()
        }
        results = self._pure(*(before[v.path] for v in (*self.updated, *self.read)), *given)
        outputs, updated = results[: self._outputs], results[self._outputs :]
        new = {v.path: value for v, value in zip(self.updated, updated, strict=True)}
        return self._rebuild(outputs), {path: self._returned(path, before, new) for path in paths}

    def _returned(self, path: str, before: State, new: State) -> Array:
        """A value of the new state: it shares no memory with the old state or the outputs, and has no gradient."""
        value = new.get(path, before[path])
        # In-place backends copy when they overwrite, so new values may still alias other results; copy them here.
        if self.backend.in_place or path not in new:
            value = self.backend.copy(value)
        return self.backend.stop_gradient(value)

    def _matched(self, state: Mapping[str, Any]) -> dict[str, Variable]:
        paths = self._paths
        if not isinstance(state, Mapping):
            raise StateError(f"The state of {self!r} must be a dict {{path: array}}, got {shown(state)}.")
        if set(state) != set(paths):
            missing, extra = sorted(set(paths) - set(state)), sorted(set(state) - set(paths))
            raise StateError(f"The state does not fit {self!r}: missing {missing}, unexpected {extra}.")
        return paths


def function(
    *inputs: Placeholder, outputs: Outputs = None, updates: Mapping[Variable, Any] | None = None, jit: bool = True
) -> Function:
    """Compile a function of placeholders, for the backend of its tensors.

    Parameters
    ----------
    inputs:
        The placeholders, in the order of the arguments: all that the outputs and the updates depend on.
    outputs:
        A tensor, a nested tuple, list or dict of tensors, or None. They are computed from the state before the call.
    updates:
        `{variable: tensor}`, from `get_updates()` or your own. They are applied together, after the outputs are
        computed. Only the updates that are passed are applied: without any, a call changes nothing.
    jit:
        Whether to compile the function, if the backend compiles. JAX jits it; NumPy and torch run the program as it is
        and write the state in place.

    A function keeps the values of its variables alive, but neither tensors nor updates: these are listed only while
    something else refers to them. A call that fails or is interrupted leaves all variables either as they were or as
    they are after the call. A second call that the same thread makes during the first, as a signal handler may, raises
    `ReentrantError` if one of the two writes a variable that both use; another thread waits.

    Raises
    ------
    MissingInput, ExtraInput, NotATensor, NotAVariable, UpdateShapeError, UpdateTypeError, BackendMismatch

    >>> import multisched as ms
    >>> x = ms.Placeholder((), "float32", name="x", backend="numpy")
    >>> total = ms.Variable(0.0, name="total", backend="numpy")
    >>> f = ms.function(x, outputs=total + x, updates={total: total + x})
    >>> float(f(1.0)), float(f(2.0)), float(total.value)
    (1.0, 3.0, 3.0)
    """
    try:
        return Function(inputs, outputs, updates, jit)
    except BaseException as error:
        # A notebook keeps the traceback, which would keep alive what the failed cell declared.
        clear_frames(error.__traceback__)
        del inputs, outputs, updates
        raise
