"""Declared tensors: nodes of a graph that have a shape, a dtype and a backend, but no value until a function runs.

A tensor follows the array API: it has the operators and attributes of the standard, and its namespace records the
functions that are called. So the rules of `multisched.schedules` and `multisched.averages` run on tensors as they run
on arrays.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NoReturn, Protocol

import numpy as np

from multisched.arrays import Namespace
from multisched.errors import BackendMismatch, TensorConversionError, TensorIterationError, TensorTruthError
from multisched.graph.scope import Graph, current_graph, current_names

__all__ = ["Tensor"]


class BackendInfo(Protocol):
    """What a declaration needs to know about the backend that will run it."""

    name: str
    sums_unsigned: bool

    @property
    def default_int(self) -> str: ...

    def owns(self, value: object) -> bool: ...
    def to_numpy(self, array: Any) -> np.ndarray: ...


_NO_VALUE = """\
{tensor} has no value yet: it is declared, and gets a value each time a function runs.
{hint}
Instead of        {wrong}
write             {right}"""


_Binary = Callable[[Any, Any], "Tensor"]
_Unary = Callable[[Any], "Tensor"]
_Refused = Callable[..., NoReturn]


def _binary(name: str, *, reflected: bool = False) -> _Binary:
    def method(self: "Tensor", other: Any) -> Any:
        if not self.xp.accepts(other):
            return NotImplemented
        return getattr(self.xp, name)(*((other, self) if reflected else (self, other)))

    return method


def _unary(name: str) -> _Unary:
    def method(self: "Tensor") -> Any:
        return getattr(self.xp, name)(self)

    return method


class Tensor:
    """A declared value: a placeholder, a variable, a constant, or an operation on them."""

    __multisched_symbolic__ = True
    __array_ufunc__ = None  # NumPy arrays leave binary operators to us
    __slots__ = ("__weakref__", "backend", "dtype", "graph", "name", "scope", "shape", "xp")

    kind: ClassVar[str] = "Tensor"
    recorded: Any = None
    untaken: bool = False  # both are attributes of variables
    shape: tuple[int, ...]
    dtype: str
    """The standard's name of the dtype, or "bfloat16"."""
    xp: Namespace
    """The recording namespace of the backend."""
    backend: BackendInfo
    """The backend that runs the functions of this tensor."""
    graph: Graph
    scope: str
    """The path of the scope in which the tensor was declared: `"/encoder/"`."""
    name: str
    """The name in that scope, and unique there."""

    def __init__(self, shape: tuple[int, ...], dtype: str, xp: Namespace, name: str):
        self.shape, self.dtype, self.xp, self.backend = shape, dtype, xp, xp.backend
        self._register(name)

    def _register(self, name: str) -> int:
        """List the tensor in the current graph, and return its place there."""
        names = current_names()
        self._name(names.path, names.unique(name))
        return self.graph.add(self)

    def _name(self, scope: str, name: str) -> None:
        self.graph, self.scope, self.name = current_graph(), scope, name

    @property
    def path(self) -> str:
        """Scope and name: `"/ExponentialMovingAverage/EMA"`."""
        return self.scope + self.name

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=object))

    @property
    def T(self) -> "Tensor":
        transposed: Tensor = self.xp.permute_dims(self, (1, 0))
        return transposed

    @property
    def mT(self) -> "Tensor":
        transposed: Tensor = self.xp.permute_dims(self, (*range(self.ndim - 2), self.ndim - 1, self.ndim - 2))
        return transposed

    def __repr__(self) -> str:
        return f"{self.kind}(name={self.name}, shape={self.shape}, dtype={self.dtype}, scope={self.scope})"

    # --- the array API
    def __array_namespace__(self, *, api_version: str | None = None) -> Namespace:
        return self.xp

    def __getitem__(self, key: Any) -> "Tensor":
        part: Tensor = self.xp.getitem(self, key)
        return part

    # --- operators
    __add__: ClassVar[_Binary] = _binary("add")
    __radd__: ClassVar[_Binary] = _binary("add", reflected=True)
    __sub__: ClassVar[_Binary] = _binary("subtract")
    __rsub__: ClassVar[_Binary] = _binary("subtract", reflected=True)
    __mul__: ClassVar[_Binary] = _binary("multiply")
    __rmul__: ClassVar[_Binary] = _binary("multiply", reflected=True)
    __truediv__: ClassVar[_Binary] = _binary("divide")
    __rtruediv__: ClassVar[_Binary] = _binary("divide", reflected=True)
    __floordiv__: ClassVar[_Binary] = _binary("floor_divide")
    __rfloordiv__: ClassVar[_Binary] = _binary("floor_divide", reflected=True)
    __mod__: ClassVar[_Binary] = _binary("remainder")
    __rmod__: ClassVar[_Binary] = _binary("remainder", reflected=True)
    __pow__: ClassVar[_Binary] = _binary("pow")
    __rpow__: ClassVar[_Binary] = _binary("pow", reflected=True)
    __matmul__: ClassVar[_Binary] = _binary("matmul")
    __rmatmul__: ClassVar[_Binary] = _binary("matmul", reflected=True)
    __and__: ClassVar[_Binary] = _binary("bitwise_and")
    __rand__: ClassVar[_Binary] = _binary("bitwise_and", reflected=True)
    __or__: ClassVar[_Binary] = _binary("bitwise_or")
    __ror__: ClassVar[_Binary] = _binary("bitwise_or", reflected=True)
    __xor__: ClassVar[_Binary] = _binary("bitwise_xor")
    __rxor__: ClassVar[_Binary] = _binary("bitwise_xor", reflected=True)
    __lshift__: ClassVar[_Binary] = _binary("bitwise_left_shift")
    __rlshift__: ClassVar[_Binary] = _binary("bitwise_left_shift", reflected=True)
    __rshift__: ClassVar[_Binary] = _binary("bitwise_right_shift")
    __rrshift__: ClassVar[_Binary] = _binary("bitwise_right_shift", reflected=True)
    __lt__: ClassVar[_Binary] = _binary("less")
    __le__: ClassVar[_Binary] = _binary("less_equal")
    __gt__: ClassVar[_Binary] = _binary("greater")
    __ge__: ClassVar[_Binary] = _binary("greater_equal")
    __eq__: ClassVar[_Binary] = _binary("equal")  # type: ignore[assignment]  # elementwise, as the array API has it
    __ne__: ClassVar[_Binary] = _binary("not_equal")  # type: ignore[assignment]  # likewise
    __neg__: ClassVar[_Unary] = _unary("negative")
    __pos__: ClassVar[_Unary] = _unary("positive")
    __abs__: ClassVar[_Unary] = _unary("abs")
    __invert__: ClassVar[_Unary] = _unary("bitwise_invert")
    __hash__: ClassVar[Callable[[Any], int]] = object.__hash__  # which `__eq__` would remove

    # --- what needs a value now
    def __bool__(self) -> NoReturn:
        raise TensorTruthError(
            _NO_VALUE.format(
                tensor=self,
                hint="So Python cannot choose a branch by it. Let the graph choose, each time it runs.",
                wrong="a if x > 0 else b",
                right="xp.where(x > 0, a, b)   with xp = x.__array_namespace__()",
            )
        )

    def _no_conversion(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TensorConversionError(
            _NO_VALUE.format(
                tensor=self,
                hint="So it cannot be converted to a number or an array.",
                wrong="float(x)",
                right="float(ms.function(outputs=x)())",
            )
        )

    __float__: ClassVar[_Refused] = _no_conversion
    __int__: ClassVar[_Refused] = _no_conversion
    __complex__: ClassVar[_Refused] = _no_conversion
    __index__: ClassVar[_Refused] = _no_conversion
    __array__: ClassVar[_Refused] = _no_conversion
    __dlpack__: ClassVar[_Refused] = _no_conversion

    def _no_iteration(self, *args: Any) -> NoReturn:
        raise TensorIterationError(
            _NO_VALUE.format(
                tensor=self,
                hint="Iterating over it would unroll the graph. Index it, or compute on all elements at once.",
                wrong="for row in x: ...",
                right="[x[i, ...] for i in range(x.shape[0])]",
            )
        )

    __iter__: ClassVar[_Refused] = _no_iteration
    __len__: ClassVar[_Refused] = _no_iteration
    __contains__: ClassVar[_Refused] = _no_iteration

    def __reduce__(self) -> NoReturn:
        raise TensorConversionError(
            f"{self} is part of a graph and cannot be pickled or copied. Declare it again in the other process, and "
            "carry over the values of its variables with ms.save_variables(path) and ms.load_variables(path)."
        )


class Placeholder(Tensor):
    """An input of functions: its value is given at each call."""

    __slots__ = ()
    kind: ClassVar[str] = "Placeholder"


class Constant(Tensor):
    """A value on the host that is fixed when it is declared. A scalar prints as its value."""

    __slots__ = ("value",)
    kind: ClassVar[str] = "Constant"
    value: np.ndarray

    def __init__(self, value: np.ndarray, dtype: str, xp: Namespace):
        super().__init__(value.shape, dtype, xp, "Constant")
        self.value = value

    def _register(self, name: str) -> int:  # constants are not listed
        self._name(current_names().path, name)
        return -1

    @property
    def fill(self) -> Any:
        """The number that all elements are equal to, if there is one: then the constant need not be stored."""
        if self.shape == () or (self.size and not any(self.value.strides)):
            return self.value[(0,) * self.ndim].item()
        return None

    def __repr__(self) -> str:
        return repr(self.value.item()) if self.shape == () else super().__repr__()


class Op(Tensor):
    """An operation on other tensors; `fn` is its name in the array API standard."""

    __slots__ = ("args", "fn", "kwargs")
    kind: ClassVar[str] = "Op"
    fn: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __init__(
        self,
        fn: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        shape: tuple[int, ...],
        dtype: str,
        xp: Namespace,
    ):
        super().__init__(shape, dtype, xp, fn)
        self.fn, self.args, self.kwargs = fn, args, kwargs

    def __repr__(self) -> str:
        return f"Op(name={self.name}, fn={self.fn}, shape={self.shape}, dtype={self.dtype}, scope={self.scope})"


def common_backend(*values: Any) -> BackendInfo | None:
    """The backend of the declared tensors among `values`, or None. Raises `BackendMismatch` if there are two."""
    found: BackendInfo | None = None
    first: Tensor | None = None
    for value in values:
        if isinstance(value, Tensor):
            if found is not None and value.backend is not found:
                raise BackendMismatch(
                    f"Tensors of two backends in one expression: {first} is of backend {found.name!r}, {value} of "
                    f"backend {value.backend.name!r}. Declare both with the same backend=."
                )
            if found is None:
                found, first = value.backend, value
    return found
