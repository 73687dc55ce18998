"""Declared tensors: nodes that have a shape, a dtype and a backend, and no value before a function runs.

A tensor follows the array API: it has the standard's operators and attributes, and its namespace records what is
called. So the rules of `multisched.schedules` and `multisched.averages` run on tensors as they run on arrays.
"""

from collections.abc import Callable
from typing import Any, NoReturn, Protocol

import numpy as np

from multisched.arrays import Namespace
from multisched.errors import BackendMismatch, TensorConversionError, TensorIterationError, TensorTruthError
from multisched.graph.scope import current_graph, current_names

__all__ = ["Tensor"]


class BackendInfo(Protocol):
    """What a declaration must know of the backend that will run it."""

    name: str
    sums_unsigned: bool

    @property
    def default_int(self) -> str: ...

    def owns(self, value: object) -> bool: ...
    def to_numpy(self, array: Any) -> np.ndarray: ...


_NO_VALUE = """\
{tensor} has no value yet: it is declared, and gets one each time a function runs.
{hint}
Instead of        {wrong}
write             {right}"""


def _binary(name: str, *, reflected: bool = False) -> Callable[[Any, Any], "Tensor"]:
    def method(self: "Tensor", other: Any) -> Any:
        if not self.xp.accepts(other):
            return NotImplemented
        return getattr(self.xp, name)(*((other, self) if reflected else (self, other)))

    return method


def _unary(name: str) -> Callable[[Any], "Tensor"]:
    def method(self: "Tensor") -> Any:
        return getattr(self.xp, name)(self)

    return method


class Tensor:
    """A declared value: a placeholder, a variable, a constant, or an operation on them."""

    __multisched_symbolic__ = True
    __array_ufunc__ = None  # NumPy arrays leave binary operators to us
    __slots__ = ("__weakref__", "backend", "dtype", "graph", "name", "scope", "shape", "xp")

    kind = "Tensor"
    recorded: Any = None
    untaken = False  # both are attributes of variables

    def __init__(self, shape: tuple[int, ...], dtype: str, xp: Namespace, name: str):
        self.shape, self.dtype, self.xp, self.backend = shape, dtype, xp, xp.backend
        self._register(name)

    def _register(self, name: str) -> int:
        names = current_names()
        self.graph, self.scope, self.name = current_graph(), names.path, names.unique(name)
        return self.graph.add(self)

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
    __add__, __radd__ = _binary("add"), _binary("add", reflected=True)
    __sub__, __rsub__ = _binary("subtract"), _binary("subtract", reflected=True)
    __mul__, __rmul__ = _binary("multiply"), _binary("multiply", reflected=True)
    __truediv__, __rtruediv__ = _binary("divide"), _binary("divide", reflected=True)
    __floordiv__, __rfloordiv__ = _binary("floor_divide"), _binary("floor_divide", reflected=True)
    __mod__, __rmod__ = _binary("remainder"), _binary("remainder", reflected=True)
    __pow__, __rpow__ = _binary("pow"), _binary("pow", reflected=True)
    __matmul__, __rmatmul__ = _binary("matmul"), _binary("matmul", reflected=True)
    __and__, __rand__ = _binary("bitwise_and"), _binary("bitwise_and", reflected=True)
    __or__, __ror__ = _binary("bitwise_or"), _binary("bitwise_or", reflected=True)
    __xor__, __rxor__ = _binary("bitwise_xor"), _binary("bitwise_xor", reflected=True)
    __lshift__, __rlshift__ = _binary("bitwise_left_shift"), _binary("bitwise_left_shift", reflected=True)
    __rshift__, __rrshift__ = _binary("bitwise_right_shift"), _binary("bitwise_right_shift", reflected=True)
    __lt__ = _binary("less")
    __le__ = _binary("less_equal")
    __gt__ = _binary("greater")
    __ge__ = _binary("greater_equal")
    __eq__ = _binary("equal")  # type: ignore[assignment]  # elementwise, as the array API has it
    __ne__ = _binary("not_equal")  # type: ignore[assignment]
    __neg__ = _unary("negative")
    __pos__ = _unary("positive")
    __abs__ = _unary("abs")
    __invert__ = _unary("bitwise_invert")
    __hash__ = object.__hash__

    # --- what needs a value now
    def __bool__(self) -> NoReturn:
        raise TensorTruthError(
            _NO_VALUE.format(
                tensor=self,
                hint="So it cannot choose a branch now. Let the graph choose, each time it runs.",
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

    __float__ = __int__ = __complex__ = __index__ = __array__ = __dlpack__ = _no_conversion

    def _no_iteration(self, *args: Any) -> NoReturn:
        raise TensorIterationError(
            _NO_VALUE.format(
                tensor=self,
                hint="Iterating would unroll the graph; index it, or compute on all elements at once.",
                wrong="for row in x: ...",
                right="[x[i, ...] for i in range(x.shape[0])]",
            )
        )

    __iter__ = __len__ = __contains__ = _no_iteration

    def __reduce__(self) -> NoReturn:
        raise TensorConversionError(
            f"{self} is part of a graph and cannot be pickled or copied. Save the values of its variables with "
            "ms.save_variables(path), and declare it again."
        )


class Placeholder(Tensor):
    """An input of functions: a value that is given at each call."""

    __slots__ = ()
    kind = "Placeholder"


class Constant(Tensor):
    """A value fixed at declaration, on the host; a scalar prints as that value."""

    __slots__ = ("value",)
    kind = "Constant"

    def __init__(self, value: np.ndarray, dtype: str, xp: Namespace):
        super().__init__(value.shape, dtype, xp, "Constant")
        self.value = value

    def _register(self, name: str) -> int:  # there is nothing to look up: a constant is where it is used
        self.graph, self.scope, self.name = current_graph(), current_names().path, name
        return -1

    @property
    def fill(self) -> Any:
        """The one Python number of which every element is a copy, or None: such a constant need not be stored."""
        if self.shape == () or (self.size and not any(self.value.strides)):
            return self.value[(0,) * self.ndim].item()
        return None

    def __repr__(self) -> str:
        return repr(self.value.item()) if self.shape == () else super().__repr__()


class Op(Tensor):
    """An operation of the array API on other tensors: its name in the standard is `fn`."""

    __slots__ = ("args", "fn", "kwargs")
    kind = "Op"

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
    """The backend of the declared tensors among `values`, or None; two are an error that names both."""
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
