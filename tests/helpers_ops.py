"""The functions that declared tensors share with arrays: a table of how to call each, and the comparison of the two.

A row of the table says on which kinds of dtype the array API standard defines a function, and draws ways of calling it.
What the standard leaves undefined (signed overflow, division of integers by zero, NaN as an integer) is not drawn.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import multisched as ms
from multisched.arrays import kind_of

KINDS = {
    "b": ("bool",),
    "i": ("int8", "int16", "int32", "int64"),
    "u": ("uint8", "uint16", "uint32", "uint64"),
    "f": ("float32", "float64"),
    "c": ("complex64", "complex128"),
}
EVERY = "biufc"
SPECIAL = (math.nan, math.inf, -math.inf, -0.0)

Call = Callable[..., Any]
"""`call(xp, *arrays)`: the same code for declared tensors and for arrays."""


class Operand(NamedTuple):
    """An argument, as numbers that become arrays of each dtype in turn, or of the one dtype `fixed`."""

    numbers: np.ndarray
    fixed: str | None = None


class Use(NamedTuple):
    """One way of calling a function."""

    call: Call
    operands: tuple[Operand, ...]


class Row(NamedTuple):
    """What is tested of a function."""

    kinds: str
    uses: st.SearchStrategy[Use]
    ulps: int = 0
    alike: bool = False
    """Whether all arguments are of one dtype, since the standard leaves others undefined."""


# --- dtypes ----------------------------------------------------------------------------------------------------------
def supported(backend: str, kinds: str = EVERY, *, computing: bool = True) -> list[str]:
    """The backend's dtypes of some kinds; `computing` leaves out those that torch can only store."""
    stored = ("uint16", "uint32", "uint64") if backend == "torch" and computing else ()
    dtypes = [dtype for kind in kinds for dtype in KINDS[kind]]
    return [dtype for dtype in dtypes if ms.get_backend(backend).supports(dtype) and dtype not in stored]


def partners(dtypes: Sequence[str], backend: str, shift: int) -> list[tuple[str, str]]:
    """Each dtype with one of its kind, whose common dtype the standard defines and the backend has."""
    pairs = []
    for group in ("b", "iu", "f", "c"):
        inside = [dtype for dtype in dtypes if np.dtype(dtype).kind in group]
        for i, first in enumerate(inside):
            second = inside[(i + shift) % len(inside)]
            common = np.promote_types(first, second)
            defined = common.kind in group and ms.get_backend(backend).supports(common.name)
            pairs.append((first, second if defined else first))
    return pairs


def as_dtype(numbers: np.ndarray, dtype: str) -> np.ndarray:
    """The numbers as an array: whole for integers, their magnitude for unsigned ones, odd for True."""
    kind = np.dtype(dtype).kind
    if kind == "c":
        both = np.empty(numbers.shape, dtype)  # filled by parts: a product with 1j would make NaN of infinities
        both.real, both.imag = numbers, numbers.ravel()[::-1].reshape(numbers.shape)
        return both
    if kind == "f":
        return numbers.astype(dtype)
    special = ~np.isfinite(numbers) | ((numbers == 0) & np.signbit(numbers))
    whole = np.where(special, 1, numbers).astype(np.int64)
    return (whole % 2 == 1) if kind == "b" else (abs(whole) if kind == "u" else whole).astype(dtype)


# --- strategies ------------------------------------------------------------------------------------------------------
def shapes(**limits: int) -> st.SearchStrategy[tuple[int, ...]]:
    return hnp.array_shapes(**{"min_dims": 0, "max_dims": 3, "min_side": 1, "max_side": 3, **limits})


def numbers(low: float, high: float, special: bool = False) -> st.SearchStrategy[float]:
    """Quarters, which sum exactly; and, where any value is as good, others and the special ones."""
    quarters = st.integers(math.ceil(4 * low), math.floor(4 * high)).map(lambda n: n / 4)
    if not special:
        return quarters
    return quarters | st.floats(low, high, width=32) | st.sampled_from(SPECIAL)


def filled(shape: tuple[int, ...], low: float, high: float, special: bool = False) -> st.SearchStrategy[Operand]:
    return hnp.arrays(np.float64, shape, elements=numbers(low, high, special)).map(Operand)


def elementwise(name: str, *domains: tuple[float, float]) -> st.SearchStrategy[Use]:
    """Calls with arrays that broadcast, each in one of its domains."""

    def call(xp: Any, *arrays: Any) -> Any:
        return getattr(xp, name)(*arrays)

    @st.composite
    def uses(draw: Any) -> Use:
        many = hnp.mutually_broadcastable_shapes(num_shapes=len(domains), max_dims=3, max_side=3)
        sizes = draw(many).input_shapes if len(domains) > 1 else [draw(shapes(min_side=0))]
        return Use(call, tuple(draw(filled(s, *d, special=True)) for s, d in zip(sizes, domains, strict=True)))

    return uses()


def rows(kinds: str, names: str, *domains: tuple[float, float], ulps: int = 0) -> dict[str, Row]:
    return {name: Row(kinds, elementwise(name, *domains), ulps) for name in names.split()}


ANY = (-100, 100)
ELEMENTWISE = {
    **rows("iufc", "abs conj negative positive round sign", ANY),
    **rows("iuf", "ceil floor trunc", ANY),
    **rows("iufc", "square", (-11, 11)),
    **rows("c", "imag", ANY),
    **rows("iufc", "real", ANY),
    **rows("iufc", "isfinite isinf isnan", ANY),
    **rows("f", "signbit", ANY),
    **rows("biu", "bitwise_invert", ANY),
    **rows("b", "logical_not", ANY),
    **rows("fc", "acos asin", (-1, 1)),
    **rows("fc", "acosh", (1, 100)),
    **rows("fc", "atanh", (-0.75, 0.75)),
    **rows("fc", "asinh atan cos sin tanh", ANY),
    **rows("fc", "cosh exp expm1 sinh", (-5, 5)),
    **rows("fc", "tan", (-1, 1)),
    **rows("fc", "log log10 log2 reciprocal", (0.25, 100)),
    **rows("fc", "log1p", (-0.5, 100)),
    **rows("fc", "sqrt", (0, 100)),
    **rows("iufc", "add", (-60, 60), (-60, 60)),
    **rows("iufc", "subtract", (60, 120), (0, 60)),
    **rows("iufc", "multiply", (-11, 11), (-11, 11)),
    **rows("iuf", "floor_divide remainder", ANY, (1, 9)),
    **rows("iuf", "maximum minimum", ANY, ANY),
    **rows("iufc", "pow", (0.25, 5), (0, 3)),
    **rows("biu", "bitwise_and bitwise_or bitwise_xor", ANY, ANY),
    **rows("iu", "bitwise_left_shift", (0, 1.75), (0, 6)),
    **rows("iu", "bitwise_right_shift", ANY, (0, 6)),
    **rows("fc", "divide", ANY, (1, 9)),
    **rows("f", "atan2 copysign hypot nextafter", ANY, ANY),
    **rows("f", "logaddexp", (-5, 5), (-5, 5)),
    **rows("biufc", "equal not_equal", (-3, 3), (-3, 3)),
    **rows("iuf", "greater greater_equal less less_equal", (-3, 3), (-3, 3)),
    **rows("b", "logical_and logical_or logical_xor", ANY, ANY),
}


# --- comparison ------------------------------------------------------------------------------------------------------
def examples(backend: str) -> settings:
    """How many examples to run, each with all dtypes: fewer on JAX, which compiles each one anew."""
    most = settings.default.max_examples
    return settings(max_examples=max(2, most // (12 if backend == "jax" else 5)))


def agrees(row: Row, backend: str, *, computing: bool = True) -> None:
    """Draw ways of calling a function, and compare each, declared, with the same on arrays, of all dtypes it takes."""
    dtypes = supported(backend, row.kinds, computing=computing)
    number = st.integers(0, len(dtypes) - 1)

    @examples(backend)
    @given(row.uses, st.just(0) if row.alike else number, number)
    def one(use: Use, shift: int, start: int) -> None:
        pairs = partners(dtypes, backend, shift)
        if backend == "jax":  # compiling takes all the time: one dtype of each kind
            pairs = list({kind_of(pair[0]): pair for pair in pairs[start:] + pairs[:start]}.values())
        compare(use.call, list(cases(use, pairs)), backend, ulps=row.ulps)

    one()


def cases(use: Use, pairs: Sequence[tuple[str, str]]) -> Iterator[list[np.ndarray]]:
    """The arguments as arrays: the first that is free has the first dtype of each pair, the others have the second."""
    for pair in pairs:
        arrays: list[np.ndarray] = []
        free = iter((pair[0], *[pair[1]] * len(use.operands)))
        for operand in use.operands:
            arrays.append(as_dtype(operand.numbers, operand.fixed or next(free)))
        yield arrays


def compare(call: Call, cases: Sequence[Sequence[np.ndarray]], backend: str, ulps: int = 0) -> None:
    """Shape and dtype of `call` on placeholders, and the values of a function of them, against those of arrays."""
    adapter = ms.get_backend(backend)
    arrays = [[adapter.xp.asarray(a) for a in case] for case in cases]
    with ms.Graph("comparison"), np.errstate(all="ignore"):
        given = [[ms.Placeholder(a.shape, a.dtype.name) for a in case] for case in cases]
        xp = ms.Placeholder(()).__array_namespace__()
        declared = [call(xp, *case) for case in given]
        f = ms.function(*(p for case in given for p in case), outputs=declared)
        actual, expected = both(f, call, arrays, adapter)
    for case, tensor, ours, theirs in zip(cases, declared, actual, expected, strict=True):
        what = " and ".join(f"{a.dtype}{a.shape}" for a in case)
        name = str(theirs.dtype).rpartition(".")[2]
        assert adapter.owns(ours), f"{type(ours)} from {what}"
        assert (tensor.shape, tensor.dtype) == (tuple(theirs.shape), name), f"declared of {what}"
        assert (tuple(ours.shape), ours.dtype) == (tuple(theirs.shape), theirs.dtype), f"computed of {what}"
        assert_same(adapter.to_numpy(ours), adapter.to_numpy(theirs), what, ulps)


def both(f: Any, call: Call, cases: list[list[Any]], adapter: Any) -> tuple[list[Any], list[Any]]:
    """The values of the function and those of `call` on arrays: on JAX in one program, as compiling takes the time."""

    def run(cases: list[list[Any]]) -> tuple[list[Any], list[Any]]:
        arrays = [a for case in cases for a in case]
        ours = f.pure({}, *arrays)[0] if adapter.name == "jax" else f(*arrays)
        return ours, [call(adapter.xp, *case) for case in cases]

    if adapter.name != "jax":
        return run(cases)
    import jax

    result: tuple[list[Any], list[Any]] = jax.jit(run)(cases)
    return result


def assert_same(ours: np.ndarray, theirs: np.ndarray, what: str, ulps: int = 0) -> None:
    """The same numbers, NaN and signs of zero, or at most so many units in the last place apart."""
    if ulps == 0 or ours.dtype.kind in "biu":
        np.testing.assert_array_equal(ours, theirs, err_msg=what)
        if ours.dtype.kind == "f":
            np.testing.assert_array_equal(np.signbit(ours), np.signbit(theirs), err_msg=what)
        return
    parts = [(ours, theirs)] if ours.dtype.kind == "f" else [(ours.real, theirs.real), (ours.imag, theirs.imag)]
    for a, b in parts:
        np.testing.assert_array_max_ulp(a, b, ulps)
