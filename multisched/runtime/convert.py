"""Checks of the values that users pass for inputs, variables and states: whether they are arrays of the right form."""

from collections.abc import Callable
from typing import Any

import numpy as np

from multisched.arrays import BITS, Array, dtype_name, int_max, is_symbolic, kind_of
from multisched.errors import MultischedError, TracedInputError, shown
from multisched.runtime.protocol import Backend

_RANK = {"bool": 0, "uint": 1, "int": 1, "float": 2, "complex": 3}


def checked(
    backend: Backend,
    value: Any,
    shape: tuple[int, ...],
    dtype: str,
    *,
    what: str,
    shape_error: type[MultischedError],
    type_error: type[MultischedError],
    traced: bool = False,
) -> Any:
    """Return the value as an array if it has this shape and can be cast to `dtype` safely.

    It may be an array of the backend or anything that NumPy converts. A cast may narrow within a kind (float64 to
    float32) or go to a wider kind (int to float), but never to a narrower kind. Integers must be in the range of
    `dtype`, unless they are traced and not known yet. `what` begins the error: "The input for Placeholder(...)".
    """
    if is_symbolic(value):
        raise type_error(f"{what} must be an array, got the declared tensor {value}, which has no value now.")
    if not traced and backend.is_traced(value):
        raise TracedInputError(
            f"{what} is being traced by a compiler, and a variable cannot keep a traced value. Inside jit, scan, "
            "vmap or grad use the pure form of the function, beginning with state = f.state:\n"
            "    outputs, state = f.pure(state, *arrays)"
        )
    if not backend.owns(value):
        value = _host_array(value, what, type_error)
    elif hasattr(backend, "unreadable") and (reason := backend.unreadable(value)):
        raise type_error(f"{what} has no values: {reason}. Give an array that has not been deleted or donated.")
    if tuple(value.shape) != shape:
        raise shape_error(f"{what} must have the shape {shape}, got the shape {tuple(value.shape)}.")
    given = dtype_name(value.dtype)
    if given not in BITS or _RANK[kind_of(given)] > _RANK[kind_of(dtype)]:
        raise type_error(f"{what} must have the dtype {dtype}, or one of its kind or a narrower kind, got {given}.")
    if kind_of(dtype) in ("int", "uint") and not traced and _may_overflow(given, dtype):
        _check_range(value if isinstance(value, np.ndarray) else backend.to_numpy(value), dtype, what, type_error)
    return value


def _may_overflow(given: str, dtype: str) -> bool:
    """Whether the dtype `given`, bool or integer, has values that an integer dtype lacks.

    `np.can_cast` would say so, too, but `torch.compile` cannot trace it.
    """
    signed = kind_of(given) == "int" and kind_of(dtype) == "uint"
    return kind_of(given) != "bool" and (signed or int_max(given) > int_max(dtype))


def _check_range(value: np.ndarray, dtype: str, what: str, type_error: type[MultischedError]) -> None:
    limits = np.iinfo(dtype)
    if value.size and (value.min() < limits.min or value.max() > limits.max):
        raise type_error(f"{what} has values outside the range of {dtype}: {value.min()} to {value.max()}.")


def _host_array(value: Any, what: str, type_error: type[MultischedError]) -> np.ndarray:
    try:
        array = np.asarray(value)
    except Exception as cause:
        raise type_error(f"{what} must be an array, got {shown(value)}: {cause}") from cause
    if dtype_name(array.dtype) not in BITS:
        raise type_error(f"{what} must be an array of numbers, got {shown(value)}.")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def implied_dtype(backend: Backend, value: Any) -> str:
    """The default dtype of a variable: that of an array; float32, int32, bool or complex64 for Python's numbers.

    If the backend lacks a 64-bit dtype, as JAX does by default, it is the 32-bit dtype of the kind.
    """
    if hasattr(value, "dtype"):
        dtype = dtype_name(value.dtype)
        narrow = {"complex128": "complex64"}.get(dtype, dtype.replace("64", "32"))
        return dtype if backend.supports(dtype) or dtype not in BITS else narrow
    kind = _host_array(value, "The value", MultischedError).dtype.kind
    return {"b": "bool", "i": "int32", "u": "int32", "f": "float32", "c": "complex64"}[kind]


Initial = Callable[[], Array]
"""Makes a new array with the first value of a variable."""
