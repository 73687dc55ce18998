"""Functions of declared tensors that move, join, choose and cast values are those of arrays."""

import numpy as np
import pytest
from helpers_ops import Operand, Row, Use, agrees, filled, shapes
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

ANY = (-100, 100)
SMALL = (-3, 3)


def any_of(shape):
    return filled(shape, *ANY, special=True)


@st.composite
def reshape(draw):
    shape = draw(shapes(min_side=0))
    size = int(np.prod(shape))
    first = draw(st.sampled_from([n for n in range(1, size + 1) if size % n == 0] or [0]))
    new = draw(st.permutations([first, size // first if first else 3, 1]))
    if size and draw(st.booleans()):
        new[draw(st.integers(0, 2))] = -1
    return Use(lambda xp, x: xp.reshape(x, tuple(new)), (draw(any_of(shape)),))


@st.composite
def permute_dims(draw):
    shape = draw(shapes(min_dims=1))
    axes = tuple(draw(st.permutations(range(len(shape)))))
    return Use(lambda xp, x: xp.permute_dims(x, axes), (draw(any_of(shape)),))


@st.composite
def expand_dims(draw):
    shape = draw(shapes(min_side=0))
    axis = draw(st.integers(-len(shape) - 1, len(shape)))
    return Use(lambda xp, x: xp.expand_dims(x, axis=axis), (draw(any_of(shape)),))


@st.composite
def squeeze(draw):
    sides = draw(st.permutations([1, 1, 3]))
    ones = [i - 3 * draw(st.booleans()) for i, side in enumerate(sides) if side == 1]
    axis = draw(st.sampled_from([ones[0], ones[1], tuple(ones), (ones[1],)]))
    return Use(lambda xp, x: xp.squeeze(x, axis=axis), (draw(any_of(tuple(sides))),))


@st.composite
def broadcast_to(draw):
    shape = draw(shapes(max_dims=2))
    target = (*draw(shapes(max_dims=1)), *(3 if side == 1 else side for side in shape))
    return Use(lambda xp, x: xp.broadcast_to(x, target), (draw(any_of(shape)),))


@st.composite
def concat(draw):
    shape, axis = draw(shapes(min_dims=1)), None
    other = shape
    if draw(st.booleans()):
        axis = draw(st.integers(-len(shape), len(shape) - 1))
        other = tuple(draw(st.integers(0, 3)) if i == axis % len(shape) else n for i, n in enumerate(shape))
    given = {} if axis == 0 and draw(st.booleans()) else {"axis": axis}
    return Use(lambda xp, a, b: xp.concat([a, b, a], **given), (draw(any_of(shape)), draw(any_of(other))))


@st.composite
def stack(draw):
    shape = draw(shapes())
    axis = draw(st.integers(-len(shape) - 1, len(shape)))
    given = {} if axis == 0 and draw(st.booleans()) else {"axis": axis}
    return Use(lambda xp, a, b: xp.stack((a, b, a), **given), (draw(any_of(shape)), draw(any_of(shape))))


@st.composite
def take(draw):
    shape = draw(shapes(min_dims=1))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    indices = draw(hnp.arrays(np.float64, draw(st.integers(0, 4)), elements=st.integers(0, shape[axis] - 1)))
    given = {} if len(shape) == 1 and draw(st.booleans()) else {"axis": axis}
    return Use(lambda xp, x, i: xp.take(x, i, **given), (draw(any_of(shape)), Operand(indices, "int32")))


@st.composite
def where(draw):
    sizes = draw(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3)).input_shapes
    condition = draw(hnp.arrays(np.float64, sizes[0], elements=st.integers(0, 1)))
    branches = [draw(any_of(shape)) for shape in sizes[1:]]
    return Use(lambda xp, c, a, b: xp.where(c, a, b), (Operand(condition, "bool"), *branches))


@st.composite
def clip(draw):
    """Between numbers, arrays or nothing, by position or by keyword."""
    shape = draw(shapes())
    low, high = draw(st.sampled_from([(1, 2), (1, None), (None, 2), (None, None), (2, 2)]))
    x, bound = draw(filled(shape, *SMALL)), draw(filled(shape[-1:], 0, 1))
    call = draw(
        st.sampled_from(
            [
                lambda xp, x, bound: xp.clip(x, low, high),
                lambda xp, x, bound: xp.clip(x, max=high, min=low),
                lambda xp, x, bound: xp.clip(x, bound, bound + bound),
                lambda xp, x, bound: xp.clip(x, max=bound),
            ]
        )
    )
    return Use(call, (x, bound))


MOVING = {
    **{"reshape": reshape, "permute_dims": permute_dims, "expand_dims": expand_dims, "squeeze": squeeze},
    **{"broadcast_to": broadcast_to},
}
JOINING = {"concat": concat, "stack": stack, "take": take, "where": where}


@pytest.mark.parametrize("name", MOVING)
def test_moving_as_computed(name, backend):
    """What only moves values does so for every dtype that the backend can store."""
    agrees(Row("biufc", MOVING[name]()), backend, computing=False)


@pytest.mark.parametrize("name", JOINING)
def test_joining_and_choosing_as_computed(name, backend):
    """What joins or chooses values of two dtypes of a kind gives them in the common dtype."""
    agrees(Row("biufc", JOINING[name]()), backend)


def test_clip_as_computed(backend):
    """Bounds are numbers, arrays, or absent."""
    agrees(Row("iuf", clip(), alike=True), backend)


CASTS = {
    **{f"bool to {d}": ("b", d) for d in ("int8", "uint8", "int32", "float32")},
    **{f"integer to {d}": ("iu", d) for d in ("bool", "int8", "uint8", "int32", "float32")},
    **{f"floating to {d}": ("f", d) for d in ("bool", "int8", "uint8", "int32", "float16", "float32", "complex64")},
    "complex to complex64": ("c", "complex64"),
}


@pytest.mark.parametrize(("kinds", "dtype"), CASTS.values(), ids=CASTS)
def test_astype_as_computed(kinds, dtype, backend):
    """Casts between kinds give what they give on arrays; to float16 too, which the standard does not have."""
    if backend == "array_api_strict" and dtype == "float16":
        pytest.skip("array-api-strict has the standard's dtypes alone, and float16 is none")
    uses = filled((2, 3), 0, 100).map(lambda x: Use(lambda xp, a: xp.astype(a, getattr(xp, dtype)), (x,)))
    agrees(Row(kinds, uses), backend)
