"""Indexing a declared tensor gives what NumPy gives, on backends that lack some of it too."""

import numpy as np
import pytest
from helpers import to_numpy
from helpers_ops import examples, shapes
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import multisched as ms

DTYPES = ("float32", "int16", "bool", "complex64")


def counted(shape, dtype="float32"):
    return np.arange(1, int(np.prod(shape)) + 1).reshape(shape).astype(dtype)


def indexed(keys, value, backend):
    """For each key what a tensor of that value has there: declared shape and dtype, and the array."""
    with ms.Graph("indexing"):
        x = ms.Placeholder(value.shape, value.dtype.name)
        declared = [x[key] for key in keys]
        arrays = [to_numpy(a, backend) for a in ms.function(x, outputs=declared)(value)]
    return [(t.shape, t.dtype, a) for t, a in zip(declared, arrays, strict=True)]


def assert_as_numpy(keys, value, backend):
    for key, (shape, dtype, array) in zip(keys, indexed(keys, value, backend), strict=True):
        expected = value[key]
        assert (shape, dtype) == (expected.shape, expected.dtype.name), key
        assert (array.shape, array.dtype) == (expected.shape, expected.dtype), key
        np.testing.assert_array_equal(array, expected, err_msg=str(key))


@st.composite
def basic(draw):
    """A shape, and keys for it of integers, slices of either direction, ellipses and new axes."""
    shape = draw(shapes(min_dims=1))
    keys = hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True)
    return shape, draw(st.lists(keys, min_size=6, max_size=12)), draw(st.sampled_from(DTYPES))


def test_basic_indices(backend):
    """Integers, slices forwards and backwards, `...` and `None`, in any mixture."""

    @examples(backend)
    @given(basic())
    def as_numpy(drawn):
        shape, keys, dtype = drawn
        assert_as_numpy(keys, counted(shape, dtype), backend)

    as_numpy()


BOUNDS = (None, -9, -4, -3, -2, -1, 0, 1, 2, 3, 9)


def test_all_slices_of_an_axis(backend):
    """Every slice of three elements, bounds far outside included, in steps of either sign."""
    keys = [slice(a, b, c) for a in BOUNDS for b in BOUNDS for c in (None, 1, 2, -1, -2)]
    assert_as_numpy(keys, counted((3,)), backend)


INDICES = [(n, "int32") for n in (2, -1, [], [3], [0, -1, 0, 2], [[1, 0], [3, -4]])]
INDICES += [(n, "uint8") for n in (2, [], [[1, 0], [3, 3]])]


@pytest.mark.parametrize("shape", [(4,), (4, 2), (4, 1, 3)], ids=str)
@pytest.mark.parametrize(("numbers", "dtype"), INDICES, ids=str)
def test_indices_that_are_tensors(numbers, dtype, shape, backend):
    """`x[i]` with an integer tensor of any shape gives the rows that it names, counted from either end."""
    value, index = counted(shape), np.asarray(numbers, dtype)
    x, i = ms.Placeholder(shape), ms.Placeholder(index.shape, dtype)
    chosen = x[i]
    array = to_numpy(ms.function(x, i, outputs=chosen)(value, index), backend)
    assert (chosen.shape, array.shape) == (value[index].shape,) * 2
    np.testing.assert_array_equal(array, value[index])
