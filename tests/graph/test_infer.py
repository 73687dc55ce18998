"""Inference of dtypes and shapes, against NumPy and array-api-strict, and against the rules of the design."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from multisched import errors
from multisched.arrays import BITS, kind_of
from multisched.graph import infer

STANDARD = [name for name in BITS if name not in ("float16", "bfloat16")]
FLOATS = ("float16", "bfloat16", "float32", "float64")


@pytest.fixture(scope="module")
def strict():
    return pytest.importorskip("array_api_strict", reason="array-api-strict, the standard in code, is not installed")


def strict_result(strict, *operands):
    """What array-api-strict has for dtypes and numbers meeting, or None where the standard leaves it undefined."""
    try:
        return str(strict.result_type(*operands)).rpartition(".")[2]
    except TypeError:
        return None


@pytest.mark.parametrize("first", STANDARD)
def test_promotion_is_the_standards(first, strict):
    """Where the standard says in which dtype two meet, in either order, they meet in that."""
    defined = 0
    for second in STANDARD:
        expected = strict_result(strict, getattr(strict, first), getattr(strict, second))
        if expected is not None:
            assert (infer.promote(first, second), infer.promote(second, first)) == (expected, expected)
            defined += 1
    assert defined >= 1


@pytest.mark.parametrize(("first", "second"), list(product(BITS, BITS)), ids=str)
def test_promotion_is_total_and_the_wider_kind_wins(first, second):
    """Two dtypes meet in one of the wider kind, in either order alike; but uint64 and signed integers do not meet."""
    order = ("bool", "uint", "int", "float", "complex")
    kinds = sorted((kind_of(first), kind_of(second)), key=order.index)
    if "uint64" in (first, second) and kinds == ["uint", "int"]:
        for pair in ((first, second), (second, first)):
            with pytest.raises(errors.DTypeError, match=f"{pair[0]} and {pair[1]}"):
                infer.promote(*pair)
        return
    met = infer.promote(first, second)
    assert met == infer.promote(second, first)
    assert kind_of(met) == kinds[1]
    assert infer.promote(met, first) == infer.promote(met, second) == met


@pytest.mark.parametrize("dtype", FLOATS)
def test_integers_meet_floats_in_the_dtype_of_the_floats(dtype):
    """An integer or boolean tensor does not widen a floating one, whatever its size."""
    narrow = [d for d in BITS if kind_of(d) in ("bool", "int", "uint")]
    assert {infer.promote(dtype, d) for d in narrow} == {dtype}


def test_promotion_of_half_precision():
    """The two half precisions meet in float32, which holds both; with complex numbers they meet in complex64."""
    assert infer.promote("float16", "bfloat16") == "float32"
    assert infer.promote("bfloat16", "float32") == "float32"
    assert infer.promote("bfloat16", "complex64") == infer.promote("float16", "complex64") == "complex64"


NUMBERS = [True, 3, 0.5, 2j]


@pytest.mark.parametrize("number", NUMBERS, ids=str)
@pytest.mark.parametrize("dtype", STANDARD)
def test_numbers_take_the_dtype_that_they_meet(dtype, number, strict):
    """A Python number beside an array has the array's dtype, where the standard lets them meet."""
    expected = strict_result(strict, getattr(strict, dtype), number)
    if expected is not None:
        assert infer.promote_number(dtype, number) == expected
    met = infer.promote_number(dtype, number)
    assert kind_of(met) in {kind_of(dtype), {int: "int", float: "float", complex: "complex"}.get(type(number))}


def test_numbers_of_a_wider_kind_widen():
    """A float beside integers gives float32, an integer beside bool int32, a complex number keeps the precision."""
    cases = {("int64", 0.5): "float32", ("bool", 0.5): "float32", ("bool", 3): "int32", ("int8", 2j): "complex64"}
    cases |= {("float64", 2j): "complex128", ("float32", 2j): "complex64", ("bfloat16", 0.5): "bfloat16"}
    assert {case: infer.promote_number(*case) for case in cases} == cases


@pytest.mark.parametrize("default", ["int32", "int64"])
@pytest.mark.parametrize("dtype", [d for d in BITS if kind_of(d) in ("bool", "int", "uint")])
def test_sums_are_at_least_the_default_integer(dtype, default):
    """Integers are summed in the default integer or wider, of their own signedness; booleans are counted in it."""
    kind = "int" if dtype == "bool" else kind_of(dtype)
    size = int(default[3:]) if dtype == "bool" else max(BITS[dtype], int(default[3:]))
    assert infer.to_sum(dtype, default) == f"{kind}{size}"


@pytest.mark.parametrize("dtype", [*FLOATS, "complex64", "complex128"])
def test_other_sums_keep_the_dtype(dtype):
    """Floating and complex values are summed as they are."""
    assert infer.to_sum(dtype, "int64") == dtype


def outcome(call, *args):
    """What a call returns, or that it fails on shapes, by NumPy's class of errors or ours."""
    try:
        return tuple(call(*args))
    except ValueError:  # `ShapeError` is one
        return "misfit"


small = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)


@given(st.lists(small, min_size=1, max_size=3))
def test_broadcasting_is_numpys(shapes):
    """Shapes broadcast to what NumPy says, or not at all."""
    assert outcome(infer.broadcast, "f", *shapes) == outcome(np.broadcast_shapes, *shapes)


@given(small, small)
def test_matmul_shapes_are_numpys(a, b):
    """The shape of a matrix product is NumPy's, and what it refuses is an error."""
    expected = outcome(lambda: np.matmul(np.zeros(a), np.zeros(b)).shape)
    assert outcome(infer.matmul, a, b) == expected


@given(
    small.filter(len),
    st.none() | st.integers(-4, 4) | st.lists(st.integers(-4, 4), max_size=3).map(tuple),
    st.booleans(),
)
def test_reduced_shapes_are_numpys(shape, axis, keepdims):
    """What a reduction leaves is what it leaves of a NumPy array, and axes that do not fit are errors."""
    expected = outcome(lambda: np.zeros(shape).sum(axis=axis, keepdims=keepdims).shape)
    assert outcome(infer.reduced, "sum", shape, axis, keepdims) == expected


@pytest.mark.parametrize("axis", [0, -1, (0,)])
def test_a_scalar_has_no_axes(axis):
    """A scalar reduces over no axes, to a scalar; NumPy alone lets it have an axis 0."""
    assert infer.reduced("sum", (), None, True) == infer.reduced("sum", (), (), False) == ()
    with pytest.raises(errors.ShapeError, match=r"\(\)"):
        infer.reduced("sum", (), axis, False)


@given(st.lists(small, min_size=1, max_size=3), st.none() | st.integers(-4, 4))
def test_concatenated_shapes_are_numpys(shapes, axis):
    """Arrays are joined to what NumPy joins them to, flattened first where the axis is None."""
    expected = outcome(lambda: np.concatenate([np.zeros(shape) for shape in shapes], axis=axis).shape)
    assert outcome(infer.concatenated, shapes, axis) == expected


def test_huge_shapes_cost_nothing():
    """Shapes are inferred without memory: of a tensor of 10**15 elements too."""
    shape = (10**5, 10**5, 10**5)
    assert infer.viewed("reshape", shape, lambda a: a.reshape(10**10, -1)) == (10**10, 10**5)
    assert infer.concatenated([shape, shape], None) == (2 * 10**15,)


def test_every_function_is_in_one_table():
    """No function stands in two tables, so that one rule alone says what becomes of its dtype."""
    names = [*infer.UNARY, *infer.BINARY, *infer.REDUCTIONS]
    assert len(names) == len(set(names))
