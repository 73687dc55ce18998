"""Checks of the operations that programs call: every function and operator of the tables, its dtype and its values.

A program's casts are explicit, so that the arguments of an operation are of one dtype; what is expected of it is what
the standard says, computed by NumPy, in double precision where floats are rounded. All cases of one dtype run as one
compiled program, as they would in use.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from multisched.arrays import Array, kind_of
from multisched.graph import infer
from multisched.graph.program import OPERATORS
from multisched.runtime.protocol import Backend
from multisched.testing.support import ULPS, apart, clause, expect_array, host_dtype, sample

COMPUTING = ("bool", "int32", "int64", "uint8", "float32", "float64", "complex64")
"""Dtypes that are computed in, if the backend has them; others need only be cast."""

_ROUNDED = {*infer.UNARY_TO_FLOAT, *infer.BINARY_TO_FLOAT, "pow"} - {"copysign", "nextafter"}
_NUMBERS = ("int", "uint", "float", "complex")
_KINDS = {
    **dict.fromkeys(infer.UNARY_KEEP + infer.BINARY_KEEP + infer.UNARY_TO_REAL, _NUMBERS),
    **dict.fromkeys(("ceil", "floor", "trunc", "floor_divide", "remainder", "maximum", "minimum"), _NUMBERS[:3]),
    **dict.fromkeys(infer.UNARY_TO_BOOL, ("float", "complex")),
    **dict.fromkeys(infer.UNARY_TO_FLOAT + infer.BINARY_TO_FLOAT, ("float", "complex")),
    **dict.fromkeys(("signbit", "atan2", "copysign", "hypot", "logaddexp", "nextafter"), ("float",)),
    **dict.fromkeys(("less", "less_equal", "greater", "greater_equal"), _NUMBERS[:3]),
    **dict.fromkeys(("equal", "not_equal"), ("bool", *_NUMBERS)),
    **dict.fromkeys((*infer.UNARY_INTEGER, "bitwise_and", "bitwise_or", "bitwise_xor"), ("bool", "int", "uint")),
    **dict.fromkeys(("bitwise_left_shift", "bitwise_right_shift"), ("int", "uint")),
    **dict.fromkeys(infer.UNARY_LOGICAL + infer.BINARY_LOGICAL, ("bool",)),
    **dict.fromkeys(("real", "imag", "conj"), ("complex",)),
}
"""On which kinds of dtype a program calls a function."""

_INSIDE = (0.75, -0.5, 0.0, 0.25, -0.125, 0.5)
_POSITIVE = (0.25, 0.5, 1.0, 2.5, 3.0, 7.5)
_DOMAINS = {
    **dict.fromkeys(("acos", "asin", "atanh", "log1p"), _INSIDE),
    **dict.fromkeys(("log", "log10", "log2", "sqrt", "reciprocal", "pow"), _POSITIVE),
    "acosh": (1.0, 1.5, 2.0, 3.0, 7.5, 100.0),
    **dict.fromkeys(("isfinite", "isinf", "isnan", "signbit"), (np.nan, np.inf, -np.inf, -0.0, 0.0, 1.5)),
}
_VALUES = (-2.5, -1.5, -0.25, 0.5, 1.0, 2.5)
_SECOND = (2.0, -1.5, 0.5, 3.0, -2.5, 2.5)


class Case(NamedTuple):
    """One call of an operation, and what it must give."""

    told: str
    call: Callable[..., Array]
    operands: tuple[np.ndarray, ...]
    expected: np.ndarray
    dtype: str
    ulps: float = 0.0
    elementwise: bool = True
    """Whether `ulps` are counted at the largest of result and operands, else at the result."""


def run(backend: Backend, cases: Sequence[Case]) -> None:
    """Require of each case that it gives what is expected, all of them compiled as one program."""
    if not cases:
        return

    def program(*arrays: Array) -> tuple[Array, ...]:
        rest, results = list(arrays), []
        for case in cases:
            taken, rest = rest[: len(case.operands)], rest[len(case.operands) :]
            try:
                results.append(case.call(*taken))
            except Exception as cause:
                raise AssertionError(f"given {_told(case)}\n  expected a result\n  got      {cause!r}") from cause
        return tuple(results)

    arrays = [backend.asarray(operand, operand.dtype.name) for case in cases for operand in case.operands]
    results = backend.compile(program, 0, True)(*arrays)
    for case, result in zip(cases, results, strict=True):
        beside = case.operands if case.elementwise else ()
        expect_array(backend, _told(case), result, case.expected, case.dtype, case.ulps, beside)


def _told(case: Case) -> str:
    given = ", ".join(f"{x.dtype.name} {x.tolist()}" for x in case.operands)
    return f"{case.told} of {given}"


def computing(backend: Backend) -> list[str]:
    """The dtypes in which this backend computes."""
    return [dtype for dtype in COMPUTING if backend.supports(dtype)]


# --- elementwise -----------------------------------------------------------------------------------------------------
def values(dtype: str, numbers: Sequence[float], *, real: bool = False) -> np.ndarray:
    """Numbers as an array of a dtype: whole for integers, their magnitude for unsigned ones, odd for True."""
    kind, array = kind_of(dtype), np.array(numbers).reshape(2, 3)
    if kind in ("float", "complex"):
        turned = array[::-1] * 1j if kind == "complex" and not real and np.all(np.isfinite(array)) else 0
        return (array + turned).astype(dtype)
    whole = np.ceil(np.where(np.isfinite(array), array, 1)).astype(np.int64)
    return (whole % 2 == 1) if kind == "bool" else (np.abs(whole) if kind == "uint" else whole).astype(dtype)


def function_of(backend: Backend, name: str) -> Callable[..., Array]:
    """An operation as programs write it: with the operator where there is one."""
    if name in OPERATORS:
        operator: Callable[..., Array] = eval(f"lambda x1, x2: x1 {OPERATORS[name]} x2")
        return operator
    return backend.operation(name)


def result_dtype(name: str, dtype: str) -> str:
    """The dtype that the standard gives for the result of an elementwise function."""
    if name in infer.UNARY_TO_BOOL + infer.BINARY_TO_BOOL:
        return "bool"
    return infer.to_real(dtype) if name in infer.UNARY_TO_REAL else dtype


def _elementwise(backend: Backend, name: str, dtype: str) -> Iterator[Case]:
    """A function on arrays, and on arrays of no dimension."""
    if kind_of(dtype) not in _KINDS[name]:
        return
    operands = _operands(name, dtype)
    rounded = name in _ROUNDED and kind_of(dtype) in ("float", "complex")
    wide = {"float": "float64", "complex": "complex128"}[kind_of(dtype)] if rounded else dtype
    ulps = ULPS if rounded or (kind_of(dtype) == "complex" and name in ("abs", "sign", "multiply")) else 0.0
    with np.errstate(all="ignore"):
        expected = np.asarray(getattr(np, name)(*(x.astype(wide) for x in operands)))
    call, result = function_of(backend, name), result_dtype(name, dtype)
    yield Case(name, call, operands, expected, result, ulps)
    if dtype in ("bool", "int32", "float32"):
        corner = tuple(x[:1, :1].reshape(()) for x in operands)
        yield Case(name, call, corner, expected[:1, :1].reshape(()), result, ulps)


def _operands(name: str, dtype: str) -> tuple[np.ndarray, ...]:
    """Arguments on which the standard defines the function, and its result is well conditioned."""
    first = values(dtype, _DOMAINS.get(name, _VALUES))
    if name not in infer.BINARY:
        return (first,)
    if name in ("pow", "bitwise_left_shift", "bitwise_right_shift"):
        return first, values(dtype, (0, 1, 2, 3, 2, 1), real=True)
    some_equal = (*_VALUES[:3], *_SECOND[3:])
    return first, values(dtype, some_equal if name in (*infer.BINARY_TO_BOOL, "maximum", "minimum") else _SECOND)


def _run_elementwise(backend: Backend, names: Sequence[str]) -> None:
    for dtype in computing(backend):
        run(backend, [case for name in names for case in _elementwise(backend, name, dtype)])


@clause("Backend.operation")
def functions_of_one_array(backend: Backend) -> None:
    """The standard's elementwise functions of one array give its dtypes, and values to 4 units in the last place."""
    _run_elementwise(backend, infer.UNARY)


@clause("Backend.operation")
def functions_of_two_arrays(backend: Backend) -> None:
    """The standard's elementwise functions of two arrays that have no operator, likewise."""
    _run_elementwise(backend, [name for name in infer.BINARY if name not in OPERATORS])


@clause("Backend.array_types")
def operators_of_arrays(backend: Backend) -> None:
    """The operators of arrays, which programs write instead of calling functions, likewise; they broadcast."""
    _run_elementwise(backend, [name for name in OPERATORS if name != "matmul"])
    column, row = sample("float32", (2, 1), 1), sample("float32", (3,), 2)
    wide = [Case("x + y", lambda x, y: x + y, (column, row), column + row, "float32")]
    wide.append(Case("x < y", lambda x, y: x < y, (column, np.array(0.75, np.float32)), column < 0.75, "bool"))
    matrices = [((2, 3), (3, 2)), ((3,), (3,)), ((2, 2, 3), (3,)), ((3,), (2, 3, 1)), ((0, 3), (3, 2))]
    for dtype in ("int32", "float32"):
        for a, b in matrices:
            first, second = sample(dtype, a), sample(dtype, b, 1)
            expected = np.asarray(first @ second)
            wide.append(Case("x @ y", lambda x, y: x @ y, (first, second), expected, dtype))
    run(backend, wide)


_WITH_NUMBERS: dict[str, Callable[[Any], Any]] = {
    "x + 2": lambda x: x + 2,
    "2 - x": lambda x: 2 - x,
    "x * 3": lambda x: x * 3,
    "x > 1": lambda x: x > 1,
    "x == 1": lambda x: x == 1,
}
_WITH_FLOATS: dict[str, Callable[[Any], Any]] = {
    "x * 0.5": lambda x: x * 0.5,
    "0.5 - x": lambda x: 0.5 - x,
    "1.0 / (x + 1.5)": lambda x: 1.0 / (x + 1.5),
    "x > 0.75": lambda x: x > 0.75,
    "x + inf": lambda x: x + np.inf,
}


@clause("Backend.array_types")
def operators_with_numbers(backend: Backend) -> None:
    """A Python number takes the dtype of the array beside it, whose kind is not narrower than its own."""
    for dtype in computing(backend):
        if kind_of(dtype) not in ("int", "float"):
            continue
        forms = _WITH_NUMBERS | (_WITH_FLOATS if kind_of(dtype) == "float" else {})
        cases = []
        for shape in ((2, 3), ()):
            x = sample(dtype, shape, 1)
            for told, call in forms.items():
                expected = np.asarray(call(x))
                cases.append(Case(f"{told} for x", call, (x,), expected, expected.dtype.name, ULPS))
        run(backend, cases)


# --- casts and memory ------------------------------------------------------------------------------------------------
@clause("Backend.operation('astype'), Backend.dtype")
def astype_casts(backend: Backend) -> None:
    """Between any two supported dtypes, the same numbers, and from a decayed scalar too."""
    known = [d for d in (*COMPUTING, "float16", "bfloat16", "int8", "uint16") if backend.supports(d)]
    for given in known:
        cases = []
        for dtype in known:
            if kind_of(given) == "complex" and kind_of(dtype) != "complex":
                continue
            for x in (sample(given), sample(given, (), 1)):
                expected = np.array(x, host_dtype(dtype))
                cases.append(Case(f"astype to {dtype}", _to(backend, dtype), (x,), expected, dtype))
        run(backend, cases)
    scalar = backend.asarray(1.5, "float32")
    decayed = backend.operation("astype")(scalar + scalar, backend.dtype("int32"))
    expect_array(backend, "astype of x + x, x of no dimension", decayed, np.array(3), "int32")


def _to(backend: Backend, dtype: str) -> Callable[[Array], Array]:
    astype, native = backend.operation("astype"), backend.dtype(dtype)
    return lambda x: astype(x, native)


@clause("Backend.operation")
def fresh_results_are_their_own(backend: Backend) -> None:
    """What the table calls fresh shares no memory with an argument, since programs hand it out without a copy."""
    for name in sorted(infer.FRESH - {"where", "matmul", "argmax", "argmin"}):
        dtype = next(d for d in ("float32", "int32", "bool", "complex64") if kind_of(d) in _KINDS[name])
        if not backend.supports(dtype):
            continue
        operands = _operands(name, dtype)
        for written in range(len(operands)):
            arrays = [backend.asarray(operand, dtype) for operand in operands]
            result = function_of(backend, name)(*arrays)
            apart(backend, f"argument {written} of {name}", arrays[written], result)


CHECKS = (
    functions_of_one_array,
    functions_of_two_arrays,
    operators_of_arrays,
    operators_with_numbers,
    astype_casts,
    fresh_results_are_their_own,
)
