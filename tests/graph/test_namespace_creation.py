"""Tensors made from numbers, and what the recording namespace says of dtypes."""

import inspect

import array_api_compat
import numpy as np
import pytest
from helpers import to_numpy
from helpers_ops import EVERY, Row, Use, agrees, filled, supported
from hypothesis import strategies as st

import multisched as ms
from multisched import errors
from multisched.arrays import BITS


def namespace():
    return ms.Placeholder(()).__array_namespace__()


def computed(tensor, backend):
    """The declared shape and dtype of a tensor, and its value."""
    array = to_numpy(ms.function(outputs=tensor)(), backend)
    assert (tensor.shape, tensor.dtype) == (array.shape, array.dtype.name)
    return array


SHAPES = [(), (2,), (2, 0), (1, 3), 3]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["zeros", "ones", "full"])
def test_filled(name, shape, backend):
    """`zeros`, `ones` and `full` of every dtype are those of NumPy."""
    more = (1,) if name == "full" else ()
    dtypes = supported(backend, computing=False)
    declared = [getattr(namespace(), name)(shape, *more, dtype=dtype) for dtype in dtypes]
    arrays = [to_numpy(array, backend) for array in ms.function(outputs=declared)()]
    for dtype, tensor, array in zip(dtypes, declared, arrays, strict=True):
        expected = getattr(np, name)(shape, *more, dtype=dtype)
        assert (tensor.shape, tensor.dtype) == (expected.shape, dtype)
        assert (array.dtype, array.tolist()) == (expected.dtype, expected.tolist())


LIKE = {
    "zeros_like": lambda xp, x: xp.zeros_like(x),
    "ones_like": lambda xp, x: xp.ones_like(x),
    "full_like": lambda xp, x: xp.full_like(x, 1),
    "zeros_like of a dtype": lambda xp, x: xp.zeros_like(x, dtype=xp.int32),
    "ones_like of a dtype": lambda xp, x: xp.ones_like(x, dtype=xp.float32),
    "full_like of a dtype": lambda xp, x: xp.full_like(x, 2.5, dtype=xp.float32),
}


@pytest.mark.parametrize("call", LIKE.values(), ids=LIKE)
def test_filled_like_another(call, backend):
    """What is like a tensor has its shape, and its dtype unless another is named."""
    agrees(Row(EVERY, filled((2, 3), -9, 9).map(lambda x: Use(call, (x,)))), backend, computing=False)


ARANGE = [(5,), (2, 5), (2, 9, 3), (5, 2, -1), (3, 3), (-2, 2), (0,)]


@pytest.mark.parametrize("bounds", ARANGE, ids=str)
@pytest.mark.parametrize("dtype", ["int32", "int16", "float32"])
def test_arange(bounds, dtype, backend):
    """`arange` of whole numbers in a dtype is NumPy's."""
    array = computed(namespace().arange(*bounds, dtype=dtype), backend)
    assert (array.dtype.name, array.tolist()) == (dtype, np.arange(*bounds).tolist())


@pytest.mark.parametrize("bounds", [(0, 1, 0.25), (1.5,), (0.0, 3), (2, 0.5, -0.5)], ids=str)
def test_arange_of_fractions_is_floating(bounds, backend):
    """Without a dtype, `arange` of Python floats is float32, as everything made of them is; of integers, int32."""
    array = computed(namespace().arange(*bounds), backend)
    assert (array.dtype.name, array.tolist()) == ("float32", np.arange(*bounds, dtype=np.float32).tolist())
    assert computed(namespace().arange(3), backend).dtype.name == "int32"


def test_default_dtypes(backend):
    """Numbers without a dtype become bool, int32, float32 and complex64 (law 7), on every backend."""
    xp = namespace()
    made = [xp.asarray(True), xp.full((2,), 3), xp.full((2,), 0.5), xp.asarray([1j]), xp.zeros((2,)), xp.ones(2)]
    assert [t.dtype for t in made] == ["bool", "int32", "float32", "complex64", "float32", "float32"]
    assert [computed(t, backend).tolist() for t in made] == [True, [3, 3], [0.5, 0.5], [1j], [0, 0], [1, 1]]


KINDS = (
    *("bool", "signed integer", "unsigned integer", "integral", "real floating", "complex floating", "numeric"),
    ("bool", "integral"),
    ("real floating", "int8"),
)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_isdtype(kind, backend):
    """`isdtype` answers as NumPy's does, for every dtype and kind, several kinds and dtypes among them."""
    xp = namespace()
    theirs = tuple(np.dtype(k) if k == "int8" else k for k in kind) if isinstance(kind, tuple) else kind
    ours = tuple(getattr(xp, k, k) for k in kind) if isinstance(kind, tuple) else kind
    for dtype in supported(backend, computing=False):
        assert xp.isdtype(getattr(xp, dtype), ours) is bool(np.isdtype(np.dtype(dtype), theirs)), dtype
        assert xp.isdtype(dtype, getattr(xp, dtype)) is True


@pytest.mark.parametrize("name", ["isdtype", "astype", "zeros", "full_like"])
def test_unknown_dtypes_are_errors(name, backend):
    """A dtype that is none is an error that shows it, wherever a dtype is taken."""
    xp, x = namespace(), ms.Placeholder((2,))
    calls = {
        "isdtype": lambda: xp.isdtype("floaty", "numeric"),
        "astype": lambda: xp.astype(x, "floaty"),
        "zeros": lambda: xp.zeros((2,), dtype="floaty"),
        "full_like": lambda: xp.full_like(x, 1, dtype="floaty"),
    }
    with pytest.raises(errors.DTypeError, match="floaty"):
        calls[name]()


@st.composite
def combined(draw):
    """A weighted mean about a shifted grid: constants of several sorts in one expression."""
    weight = draw(st.integers(-8, 8)) / 4

    def call(xp, x):
        grid = xp.reshape(xp.arange(3, dtype=xp.float32), (1, 3))
        grid = xp.astype(grid, x.dtype) + xp.full((2, 1), weight, dtype=x.dtype)
        return xp.sum(grid * x - xp.ones_like(x), axis=0) / xp.asarray(2, dtype=x.dtype)

    return Use(call, (draw(filled((2, 3), -9, 9)),))


def test_constants_inside_expressions(backend):
    """Constants that broadcast beside tensors, as numbers and as arrays, give what arrays do."""
    agrees(Row("f", combined()), backend)


SHARED = sorted(
    name
    for name in vars(type(ms.Placeholder((), backend="numpy").__array_namespace__()))
    if not name.startswith("_") and callable(getattr(array_api_compat.array_namespace(np.ones(1)), name, None))
)


@pytest.mark.parametrize("name", [n for n in SHARED if n not in BITS])
def test_arguments_have_the_standards_names(name):
    """Every argument of a function that array-api-strict has is taken by the recording namespace too, and alike."""
    strict = pytest.importorskip("array_api_strict", reason="array-api-strict, the standard in code, is not installed")
    theirs = inspect.signature(getattr(strict, name)).parameters
    ours = inspect.signature(getattr(ms.Placeholder((), backend="numpy").__array_namespace__(), name)).parameters
    for i, (argument, parameter) in enumerate(theirs.items()):
        if parameter.kind is parameter.POSITIONAL_ONLY or parameter.kind is parameter.VAR_POSITIONAL:
            assert any(p.kind is p.VAR_POSITIONAL for p in ours.values()) or i < len(ours), argument
        else:
            assert argument in ours, f"{name}({argument}=)"
            assert ours[argument].default is not inspect.Parameter.empty or parameter.default is parameter.empty
