"""Functions: some outputs and some updates of a graph, compiled for one backend."""

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
from multisched.frontend.structure import flatten
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

    def __init__(self, inputs: tuple[Any, ...], outputs: Any, updates: Any, jit: bool):
        self.inputs = checked_inputs(inputs)
        tensors, self._rebuild = flatten(outputs)
        self._single, self._plain = len(tensors) == 1, isinstance(outputs, Tensor)
        changes = checked_updates({} if updates is None else updates)
        found: Any = common_backend(*self.inputs, *tensors, *changes)
        self.backend: Backend = get_backend() if found is None else found
        program = Program(self.inputs, tensors, changes)
        self.updated: tuple[Variable, ...] = tuple(v.stand_in() for v in program.updated)
        self.read: tuple[Variable, ...] = tuple(v.stand_in() for v in program.read)  # type: ignore[attr-defined]
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
        source: str = self._pure.source  # type: ignore[attr-defined]
        return source

    def __repr__(self) -> str:
        return repr(self._inputs)

    def __reduce__(self) -> NoReturn:
        raise TensorConversionError(
            f"{self!r} is compiled in this process and cannot be pickled or copied. Build it again from the same "
            "declarations, and hand over its state:  state = f.state  there,  f.state = state  here."
        )

    def __call__(self, *arrays: Any, device_get: bool = False) -> Any:
        """Compute the outputs from the state before the call, then apply all updates together.

        Outputs are arrays of the backend, or NumPy's with `device_get=True`, and share no memory with anything.
        Inputs are cast within their kind; other misfits raise `MissingInput`, `ExtraInput`, `InputShapeError`,
        `InputTypeError` or `TracedInputError`, with every variable as it was.
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
                    f"Two variables of this function have the path {variable.path!r}, declared before and after a "
                    "reset of their graph or in two graphs. Name one of them apart to use its state by path."
                )
            paths[variable.path] = variable
        return paths

    @property
    def state(self) -> State:
        """The values of the variables now, copied, by path; assign a state of the same form to bring it back."""
        paths = self._paths
        return values_of(paths)

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        paths = self._matched(state)
        assign({v: v._accepted(state[path], f"The state of {v}") for path, v in paths.items()})

    def pure(self, state: Mapping[str, Any], *arrays: Any) -> tuple[Any, State]:
        """The function without its memory: `(outputs, new state)`, from `state` of the form of `f.state`.

        Reads and writes no variable, so that it can stand inside `jax.jit`, `lax.scan`, `vmap`, `grad`, or
        `torch.compile`. The new state carries no gradient.
        """
        paths, backend = self._matched(state), self.backend
        if len(arrays) != len(self.inputs):
            self._inputs.complain_of_count(arrays)
        inputs = [self._inputs.converted(p, a, pure=True) for p, a in zip(self.inputs, arrays, strict=True)]
        before = {
            path: self._inputs.taken(v, state[path], f"The state of {v}", UpdateShapeError, UpdateTypeError, True)
            for path, v in paths.items()
        }
        results = self._pure(*(before[v.path] for v in (*self.updated, *self.read)), *inputs)
        outputs = results[: self._outputs]
        after = before | {v.path: new for v, new in zip(self.updated, results[len(outputs) :], strict=True)}
        # In-place backends copy when they overwrite, so new values may still alias other results; copy them here.
        apart = set() if backend.in_place else {v.path for v in self.updated}
        after = {path: after[path] if path in apart else backend.copy(after[path]) for path in paths}
        return self._rebuild(outputs), {path: backend.stop_gradient(value) for path, value in after.items()}

    def _matched(self, state: Mapping[str, Any]) -> dict[str, Variable]:
        paths = self._paths
        if not isinstance(state, Mapping):
            raise StateError(f"The state of {self!r} is a dict {{path: array}}, got {shown(state)}.")
        if set(state) != set(paths):
            missing, extra = sorted(set(paths) - set(state)), sorted(set(state) - set(paths))
            raise StateError(f"This state is not of {self!r}: missing {missing}, unexpected {extra}.")
        return paths


def function(*inputs: Placeholder, outputs: Any = None, updates: Any = None, jit: bool = True) -> Function:
    """Compile a function of placeholders, for the backend of its tensors.

    Parameters
    ----------
    inputs:
        The placeholders, in the order of the arguments. All that the outputs and updates need must be there.
    outputs:
        A tensor, a tuple, list or dict of them, nested, or None. Computed from the state before the call.
    updates:
        `{variable: tensor}`, from `get_updates()` or your own, applied together after the outputs are computed. Updates
        that are not passed are not applied: without any, no call changes anything.
    jit:
        Whether a backend that compiles does so. JAX jits the function; on NumPy and torch the
        program runs as it is and state is written in place.

    A function holds the values of its variables, but neither the tensors nor the updates: these stay listed only while
    somebody else holds them. A call that fails or is interrupted leaves all variables as they were, or as they are
    after the call. A second call in the middle of one, by the same thread, raises `ReentrantError` if one of the two
    writes a variable of both; another thread waits.

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
        # The traceback, which a notebook keeps, would go on holding what a cell declared that failed.
        clear_frames(error.__traceback__)
        del inputs, outputs, updates
        raise
