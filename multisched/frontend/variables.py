"""Variables, which keep a value between calls, and placeholders, which get one at each call."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar

import numpy as np

from multisched.arrays import BITS, Array, checked_dtype, dtype_name, is_number, is_symbolic, namespace_of
from multisched.errors import ConcreteValueError, DTypeError, ShapeError, UpdateShapeError, UpdateTypeError, listed
from multisched.graph.namespace import recording_namespace
from multisched.graph.scope import checked_name
from multisched.graph.tensor import Constant, Tensor
from multisched.graph.tensor import Placeholder as _Placeholder
from multisched.runtime.commit import writes_to
from multisched.runtime.convert import Initial, checked, implied_dtype
from multisched.runtime.locks import StateLock, holding, in_order, refuse_within
from multisched.runtime.protocol import Backend, Cell, exhaust
from multisched.runtime.registry import BackendLike, get_backend

__all__ = ["Placeholder", "Variable"]


class Variable(Tensor):
    """A tensor with a value of its own, which lives on a backend and changes when a function applies its updates.

    Parameters
    ----------
    init:
        The first value: a number, nested lists of them, or an array of the backend or of NumPy. It is copied.
    name:
        The name of the variable, which is made unique within the current scope.
    trainable:
        Whether an optimizer is meant to change the variable: a mark for `get_variables(trainable=True)`.
    dtype:
        Default: the dtype of an array; float32 for Python floats, int32 for ints, bool for bools.
    backend:
        Default: the backend of `init` if that is an array, else the backend in use; see `get_backend`.
    device:
        A device of the backend, or its name.

    Raises
    ------
    ConcreteValueError:
        If `init` is a declared tensor, or not an array of numbers.
    UnknownBackend, BackendNotInstalled, DTypeError, DeviceError, InvalidName:
        If the backend, dtype or device does not exist, or the name is not allowed.

    >>> w = Variable([1.0, 2.0], name="w", backend="numpy")
    >>> w.update([3.0, 4.0])
    >>> w.value
    array([3., 4.], dtype=float32)
    >>> w.reset()
    >>> w.value
    array([1., 2.], dtype=float32)
    """

    __slots__ = ("_initial", "_serial", "_stand_in", "cell", "recorded", "trainable", "untaken")
    kind: ClassVar[str] = "Variable"
    backend: Backend
    cell: Cell
    """Where the value lives."""
    trainable: bool
    recorded: Tensor | None
    """The recorded update, if there is one."""
    untaken: bool
    """Whether nobody kept the results declared with it, and no function uses it yet: its update stays listed."""

    def __init__(
        self,
        init: Any,
        name: str = "Variable",
        trainable: bool = True,
        dtype: Any = None,
        backend: BackendLike = None,
        device: Any = None,
    ):
        checked_name(name)
        if is_symbolic(init):
            raise ConcreteValueError(
                f"The first value of a variable must be known now, got the declared tensor {init}. Give an array; the "
                "variable can get the value of the tensor by an update."
            )
        found = _backend_for(init, backend)
        value = init if found.owns(init) else _host(init)
        dtype = implied_dtype(found, init) if dtype is None else checked_dtype(dtype)
        value = checked(
            found,
            value,
            tuple(value.shape),
            dtype,
            what="The first value of a variable",
            shape_error=ShapeError,
            type_error=DTypeError,
        )
        self._setup(found, value, dtype, name, trainable, device, StateLock())

    def _setup(
        self, backend: Backend, value: Array, dtype: str, name: str, trainable: bool, device: Any, lock: StateLock
    ) -> None:
        self.cell = Cell(backend.asarray(value, dtype, device), lock)
        if (
            isinstance(value, np.ndarray) and value.size and not any(value.strides)
        ):  # one number, repeated by broadcasting
            kept = np.broadcast_to(value[(0,) * value.ndim].copy(), value.shape)
        else:
            kept = backend.to_numpy(self.cell.array)
        where = backend.device_of(self.cell.array)
        self._initial: Initial = lambda: backend.asarray(kept, dtype, where)
        self.trainable = trainable
        self.recorded = None
        self.untaken = False
        self._stand_in: Variable | None = None
        super().__init__(tuple(value.shape), dtype, recording_namespace(backend), name)

    def _register(self, name: str) -> int:
        self._serial = super()._register(name)
        return self._serial

    def stand_in(self) -> "Variable":
        """The same variable without its recorded update, for functions to refer to.

        A function needs the value, but must not keep an update alive that nothing else refers to: a notebook cell that
        is run again declares its variable anew while the function of the last run still exists. Once nothing refers to
        this variable any more, the graph lists the stand-in in its place.
        """
        if self._stand_in is None:
            self._stand_in, self.untaken = _StandIn(self), False
            self.graph.let_stand_in(self._serial, self, self._stand_in)
        return self._stand_in

    @classmethod
    def _of_rule(cls, start: Constant, name: str, device: Any, lock: StateLock) -> "Variable":
        """A part of the state of a rule. The parts share a lock, since they are always used together."""
        variable = cls.__new__(cls)
        variable._setup(get_backend(start.xp.backend), start.value, start.dtype, name, False, device, lock)
        return variable

    def __repr__(self) -> str:
        return (
            f"Variable(name={self.name}, shape={self.shape}, dtype={self.dtype}, trainable={self.trainable}, "
            f"scope={self.scope})"
        )

    @property
    def value(self) -> Array:
        """A copy of the current value, an array of the backend."""
        with self.cell.lock.lock:
            return self.backend.copy(self.cell.array)

    @property
    def device(self) -> Any:
        raise AttributeError("device")  # array API code asks it of arrays, to place others beside them

    def update(self, value: Any) -> None:
        """Set the value to an array or number of the variable's shape.

        Raises `UpdateShapeError` or `UpdateTypeError` if it does not fit, and then leaves the variable as it was.
        """
        assign({self: self._accepted(value, f"The new value of {self}")})

    def reset(self) -> None:
        """Set the value back to the first value."""
        assign({self: self._initial()})

    def _accepted(self, value: Any, what: str) -> Array:
        """The value as a new array with which the variable can be overwritten."""
        value = checked(
            self.backend,
            value,
            self.shape,
            self.dtype,
            what=what,
            shape_error=UpdateShapeError,
            type_error=UpdateTypeError,
        )
        return self.backend.asarray(value, self.dtype, self.backend.device_of(self.cell.array))


class _StandIn(Variable):
    """A variable that shares name and value with another one, without a recorded update; see `Variable.stand_in`."""

    __slots__ = ()

    def __init__(self, variable: Variable):
        for slot in (
            "shape",
            "dtype",
            "xp",
            "backend",
            "graph",
            "scope",
            "name",
            "_initial",
            "_serial",
            "cell",
            "trainable",
        ):
            setattr(self, slot, getattr(variable, slot))
        self.recorded, self._stand_in, self.untaken = None, None, False

    def stand_in(self) -> Variable:
        return self


class Placeholder(_Placeholder):
    """An input of functions: a tensor whose value is given at each call.

    Parameters
    ----------
    shape:
        A tuple of non-negative integers, or one integer.
    dtype:
        The name of a dtype in the array API standard, or a dtype of any framework.
    name:
        The name of the placeholder, which is made unique within the current scope.
    backend:
        Default: the backend in use; see `get_backend`.

    >>> Placeholder((2,), "float32", backend="numpy")
    Placeholder(name=Placeholder, shape=(2,), dtype=float32, scope=/)
    """

    __slots__ = ()

    def __init__(
        self, shape: int | Sequence[int], dtype: Any = "float32", name: str = "Placeholder", backend: BackendLike = None
    ):
        sizes = shape if isinstance(shape, tuple | list) else (shape,)
        if not all(isinstance(n, int | np.integer) and not isinstance(n, bool) and n >= 0 for n in sizes):
            raise ShapeError(f"The shape of a placeholder must be a tuple of non-negative integers, got {shape!r}.")
        found, name_of_dtype = get_backend(backend), checked_dtype(dtype)
        found.dtype(name_of_dtype)  # raises if the backend lacks it
        super().__init__(tuple(map(int, sizes)), name_of_dtype, recording_namespace(found), checked_name(name))


def assign(new: Mapping[Variable, Array]) -> None:
    """Set variables to arrays, which must fit: all of them or, after an error, none."""
    locks = in_order(v.cell.lock for v in new)
    refuse_within(locks, f"To set {listed(v.path for v in new)}")
    by_backend: dict[Backend, list[Variable]] = {}
    for variable in new:
        by_backend.setdefault(variable.backend, []).append(variable)

    def write() -> None:
        each = [writes_to(b, [v.cell for v in group], [new[v] for v in group]) for b, group in by_backend.items()]
        exhaust(chain(*each))

    holding(locks, write)


def values_of(variables: Mapping[str, Variable]) -> dict[str, Array]:
    """Copies of the values of variables, all taken at one moment."""
    locks = in_order(v.cell.lock for v in variables.values())
    return holding(locks, lambda: {key: v.backend.copy(v.cell.array) for key, v in variables.items()})


def _backend_for(init: Any, backend: Any) -> Backend:
    if backend is None and not isinstance(init, np.ndarray | np.generic | list | tuple) and not is_number(init):
        try:
            return get_backend(namespace_of(init))
        except TypeError:  # not an array: the check of the value raises the error
            pass
    return get_backend(backend)


def _host(init: Any) -> np.ndarray:
    try:
        array = np.asarray(init)
    except Exception as cause:
        raise ConcreteValueError(
            f"The first value of a variable must be an array of numbers, got {init!r}: {cause}"
        ) from cause
    if dtype_name(array.dtype) not in BITS:
        raise ConcreteValueError(f"The first value of a variable must be an array of numbers, got {init!r}.")
    return array
