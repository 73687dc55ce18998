"""Python's operators on declared tensors, with tensors and with numbers on either side, are those of arrays."""

import operator

import numpy as np
import pytest
from helpers_ops import Row, Use, agrees, filled
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

BINARY = {
    # kinds, domains of the left and the right
    operator.add: ("iufc", (-60, 60), (-60, 60)),
    operator.sub: ("iufc", (60, 120), (0, 60)),
    operator.mul: ("iufc", (-11, 11), (-11, 11)),
    operator.truediv: ("fc", (-100, 100), (1, 9)),
    operator.floordiv: ("iuf", (-100, 100), (1, 9)),
    operator.mod: ("iuf", (-100, 100), (1, 9)),
    operator.pow: ("iufc", (1, 5), (0, 3)),
    operator.and_: ("biu", (0, 100), (0, 100)),
    operator.or_: ("biu", (0, 100), (0, 100)),
    operator.xor: ("biu", (0, 100), (0, 100)),
    operator.lshift: ("iu", (0, 1.75), (0, 6)),
    operator.rshift: ("iu", (-100, 100), (0, 6)),
    operator.lt: ("iuf", (-3, 3), (-3, 3)),
    operator.le: ("iuf", (-3, 3), (-3, 3)),
    operator.gt: ("iuf", (-3, 3), (-3, 3)),
    operator.ge: ("iuf", (-3, 3), (-3, 3)),
    operator.eq: ("biufc", (-3, 3), (-3, 3)),
    operator.ne: ("biufc", (-3, 3), (-3, 3)),
}
UNARY = {
    operator.neg: "ifc",
    operator.pos: "iufc",
    operator.abs: "iufc",
    operator.invert: "biu",
}


def named(op):
    return op.__name__


@st.composite
def pairs(draw, op, left, right):
    sizes = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=2, max_side=3)).input_shapes
    return Use(lambda xp, a, b: op(a, b), tuple(draw(filled(s, *d)) for s, d in zip(sizes, (left, right), strict=True)))


@pytest.mark.parametrize("op", BINARY, ids=named)
def test_operators_of_two_tensors(op, backend):
    """Two tensors of one dtype, which broadcast, give what arrays do."""
    kinds, left, right = BINARY[op]
    agrees(Row(kinds, pairs(op, left, right), alike=True), backend)


def number_beside(x, quarters):
    """A Python number of the kind of the dtype of `x`: the standard lets an array meet no others."""
    kind = np.dtype(str(x.dtype).rpartition(".")[2]).kind
    whole = abs(int(quarters)) if kind == "u" else int(quarters)
    return {"b": bool(whole % 2), "f": quarters, "c": complex(quarters, 1)}.get(kind, whole)


@st.composite
def with_numbers(draw, op, left, right):
    """A tensor with a number on its right, and another with a number on its left."""
    a, b = draw(filled((2, 2), *left)), draw(filled((2, 2), *right))
    m, n = a.numbers[0, 0].item(), b.numbers[0, 0].item()
    return Use(lambda xp, a, b: xp.stack([op(a, number_beside(a, n)), op(number_beside(b, m), b)]), (a, b))


@pytest.mark.parametrize("op", BINARY, ids=named)
def test_operators_with_python_numbers(op, backend):
    """With a Python number of its kind, to the right or to the left, a tensor keeps its dtype."""
    kinds, left, right = BINARY[op]
    agrees(Row(kinds, with_numbers(op, left, right), alike=True), backend)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, -0.0, -2.5, 1e30, 3], ids=str)
def test_numbers_of_every_sort(number, backend):
    """NaN, the infinities, minus zero, negative and whole numbers mean the same beside a tensor as beside an array."""
    x = filled((2, 3), -3, 3)

    def call(xp, a):
        return xp.where(a > number, a * number, number - a)

    agrees(Row("f", x.map(lambda x: Use(call, (x,)))), backend)


@pytest.mark.parametrize("op", UNARY, ids=named)
def test_operators_of_one_tensor(op, backend):
    """Minus, plus, `abs` and `~` are those of an array."""
    uses = filled((2, 3), -100, 100).map(lambda x: Use(lambda xp, a: op(a), (x,)))
    agrees(Row(UNARY[op], uses), backend)


@pytest.mark.parametrize("op", [operator.iadd, operator.imul, operator.isub], ids=named)
def test_augmented_operators(op, backend):
    """`x += y` on a name gives what it gives on an array that nobody else holds."""
    uses = st.tuples(filled((2, 2), 10, 11), filled((2, 2), 0, 10)).map(lambda o: Use(lambda xp, a, b: op(a + 0, b), o))
    agrees(Row("iuf", uses, alike=True), backend)
