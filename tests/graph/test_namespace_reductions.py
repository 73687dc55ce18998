"""Reductions and matrix products of declared tensors are those of arrays."""

import numpy as np
import pytest
from helpers import to_numpy
from helpers_ops import Row, Use, agrees, filled, shapes
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import multisched as ms
from multisched.graph import infer

SMALL = (-2, 2)
ANY = (-100, 100)
TABLE = {
    # kinds, domain of the values, whether they may be any floats, the options besides axis and keepdims
    "sum": ("iufc", SMALL, False, {}),
    "prod": ("iufc", SMALL, False, {}),
    "mean": ("fc", SMALL, False, {}),
    "var": ("f", SMALL, False, {"correction": st.sampled_from([0, 1, 1.0])}),
    "std": ("f", SMALL, False, {"correction": st.sampled_from([0, 1, 1.0])}),
    "max": ("iuf", ANY, True, {}),
    "min": ("iuf", ANY, True, {}),
    "argmax": ("iuf", ANY, True, {}),
    "argmin": ("iuf", ANY, True, {}),
    "all": ("biuf", SMALL, True, {}),
    "any": ("biuf", SMALL, True, {}),
}


def axes(name, ndim):
    """None, one axis counted from either end, or several where the function takes several."""
    one = st.integers(-ndim, ndim - 1) if ndim else st.nothing()
    several = hnp.valid_tuple_axes(ndim) if ndim and not name.startswith("arg") else st.nothing()
    return st.none() | one | several


@st.composite
def reductions(draw, name, domain, special, options):
    shape = draw(shapes(min_side=2 if "correction" in options else 1))
    axis = draw(axes(name, len(shape)))
    if "correction" in options and (axis == () or not shape):
        options = {}  # one value has no spread to correct
    given = {"axis": axis, "keepdims": draw(st.booleans())} | {k: draw(v) for k, v in options.items()}
    return Use(lambda xp, x: getattr(xp, name)(x, **given), (draw(filled(shape, *domain, special=special)),))


@pytest.mark.parametrize("name", TABLE)
def test_reductions_as_computed(name, backend):
    """Shape, dtype and values of a reduction are those on arrays, whichever the axes, kept or not."""
    kinds, *rest = TABLE[name]
    agrees(Row(kinds, reductions(name, *rest)), backend)


def test_every_reduction_is_in_the_table():
    """The table of tests and the tables of the library name the same reductions."""
    assert set(TABLE) == set(infer.REDUCTIONS)


@pytest.mark.parametrize("name", ["all", "any"])
def test_truth_of_complex_numbers(name, backend):
    """A complex number is true unless both parts are zero, as in NumPy; JAX's own `all` drops the imaginary part."""
    value = np.asarray([[1, 0], [1j, 0], [1j, 1], [np.nan * 1j, 2], [0, 0]], np.complex64)
    x = ms.Placeholder(value.shape, "complex64")
    tensor = getattr(x.__array_namespace__(), name)(x, axis=1)
    array = to_numpy(ms.function(x, outputs=tensor)(value), backend)
    assert (tensor.shape, tensor.dtype, array.dtype.name) == ((5,), "bool", "bool")
    assert array.tolist() == getattr(np, name)(value, axis=1).tolist()


@pytest.mark.parametrize("name", ["sum", "prod", "all", "any"])
def test_reductions_of_nothing(name, backend):
    """Over an axis of length 0 a reduction that has a neutral element gives it."""
    empty = filled((2, 0, 3), *SMALL)
    agrees(Row("if", empty.map(lambda x: Use(lambda xp, a: getattr(xp, name)(a, axis=1), (x,)))), backend)


@pytest.mark.parametrize("name", ["sum", "prod"])
@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_the_dtype_of_a_sum(name, dtype, backend):
    """`dtype=` says in which dtype a sum or product is taken."""
    operands = filled((2, 3), 0, 2)
    uses = operands.map(lambda x: Use(lambda xp, a: getattr(xp, name)(a, axis=0, dtype=getattr(xp, dtype)), (x,)))
    agrees(Row("if", uses), backend)


@st.composite
def products(draw):
    fit = draw(hnp.mutually_broadcastable_shapes(signature="(m?,n),(n,p?)->(m?,p?)", max_dims=1, max_side=3))
    return Use(lambda xp, a, b: xp.matmul(a, b), tuple(draw(filled(shape, *SMALL)) for shape in fit.input_shapes))


def test_matmul_as_computed(backend):
    """Vectors, matrices and stacks of them multiply as arrays do."""
    agrees(Row("iufc", products()), backend)


@pytest.mark.parametrize("side", ["left", "right"])
def test_matmul_by_a_filled_matrix(side, backend):
    """A matrix whose elements are all one number is still a matrix in a product, not that number."""

    def call(xp, x):
        filled_with_2 = xp.full((2, 2), 2, dtype=x.dtype)
        return filled_with_2 @ x if side == "left" else x @ filled_with_2

    agrees(Row("if", filled((2, 2), *SMALL).map(lambda x: Use(call, (x,)))), backend)
