"""What a function takes for a placeholder: arrays, lists and numbers of its shape that cast to its dtype safely."""

import numpy as np
import pytest
from helpers import make, to_numpy
from helpers_frontend import raises

import multisched as ms
from multisched import errors

ACCEPTED = {
    "float64 into float32": ("float32", np.asarray([0.1, 2.0]), [np.float32(0.1), 2.0]),
    "float16 into float32": ("float32", np.asarray([0.5, 2.0], np.float16), [0.5, 2.0]),
    "int64 into float32": ("float32", np.asarray([1, 2]), [1.0, 2.0]),
    "uint8 into float32": ("float32", np.asarray([1, 255], np.uint8), [1.0, 255.0]),
    "bool into float32": ("float32", np.asarray([True, False]), [1.0, 0.0]),
    "bool into int32": ("int32", np.asarray([True, False]), [1, 0]),
    "int64 into int32": ("int32", np.asarray([-(2**31), 2**31 - 1]), [-(2**31), 2**31 - 1]),
    "int64 into uint8": ("uint8", np.asarray([0, 255]), [0, 255]),
    "float32 into complex64": ("complex64", np.asarray([1.5, 2.0], np.float32), [1.5 + 0j, 2.0 + 0j]),
    "list of floats": ("float32", [0.5, 1.5], [0.5, 1.5]),
    "list of ints": ("float32", [1, 2], [1.0, 2.0]),
    "tuple": ("int32", (1, 2), [1, 2]),
    "list of NumPy scalars": ("float32", [np.float64(1.5), np.int8(2)], [1.5, 2.0]),
    "strided": ("float32", np.arange(6.0)[::-3], [5.0, 2.0]),
    "read-only": ("float32", np.broadcast_to(np.float32(3.0), (2,)), [3.0, 3.0]),
    "big-endian": ("float32", np.asarray([1.5, 2.5], ">f4"), [1.5, 2.5]),
    "infinite and NaN": ("float32", [np.inf, -np.inf], [np.inf, -np.inf]),
}

REJECTED = {
    "float into int": ("int32", np.asarray([1.0, 2.0]), "float64"),
    "list of floats into int": ("int32", [1.0, 2.0], "float64"),
    "float into bool": ("bool", [1.0, 0.0], "float64"),
    "int into bool": ("bool", [1, 0], "int64"),
    "complex into float": ("float32", [1j, 0], "complex128"),
    "too large": ("int32", [0, 2**31], "2147483648"),
    "too small": ("int32", [0, -(2**31) - 1], "-2147483649"),
    "negative into uint8": ("uint8", [-1, 0], "-1"),
    "too large for uint8": ("uint8", [256, 0], "256"),
    "strings": ("float32", ["a", "b"], "list"),
    "None": ("float32", None, "NoneType"),
    "objects": ("float32", np.asarray([object(), object()]), "object"),
    "ragged": ("float32", [[1.0], [1.0, 2.0]], "list"),
    "a dict": ("float32", {"a": 1}, "dict"),
    "dates": ("float32", np.asarray(["2020-01-01", "2020-01-02"], "datetime64[D]"), "datetime64"),
}


@pytest.mark.parametrize(("dtype", "value", "expected"), ACCEPTED.values(), ids=ACCEPTED)
def test_safe_casts_are_made(backend, dtype, value, expected):
    """Casts within a kind, and from a narrower to a wider kind, keep the values to rounding."""
    x = ms.Placeholder((2,), dtype)
    output = ms.function(x, outputs=x)(value, device_get=True)
    assert output.dtype.name == dtype
    assert output.tolist() == expected


@pytest.mark.parametrize(("dtype", "value", "given"), REJECTED.values(), ids=REJECTED)
def test_unsafe_casts_are_errors(backend, dtype, value, given):
    """What would lose a fraction, an imaginary part or the range, or is no array of numbers, is named in an error."""
    x, w = ms.Placeholder((2,), dtype, name="weights"), ms.Variable(0)
    f = ms.function(x, outputs=x, updates={w: w + 1})
    with raises(errors.InputTypeError, "Placeholder(name=weights", dtype, given):
        f(value)
    assert int(to_numpy(w.value, backend)) == 0


@pytest.mark.parametrize("value", [2.5, 3, True, np.float64(2.5), np.int16(3), np.asarray(2.5)], ids=repr)
def test_python_numbers_and_numpy_scalars_are_scalars(backend, value):
    """A placeholder of shape () takes a bare number of any kind that casts to it."""
    x = ms.Placeholder(())
    assert float(ms.function(x, outputs=x)(value, device_get=True)) == float(value)


@pytest.mark.parametrize("value", [2**31, np.int64(2**31), np.uint32(2**31), np.asarray(2**31)], ids=repr)
def test_a_scalar_out_of_range_is_an_error(backend, value):
    """An integer scalar is checked against the range of the dtype, whatever holds it: it would wrap around."""
    x = ms.Placeholder((), "int32")
    with pytest.raises(errors.InputTypeError, match="2147483648"):
        ms.function(x, outputs=x)(value)


@pytest.mark.parametrize(
    ("given", "wanted"), [("int16", "float32"), ("int32", "float32"), ("bool", "int32"), ("int8", "int32")]
)
def test_arrays_of_the_backend_are_cast_alike(backend, given, wanted):
    """An array of the backend's own, of another dtype that casts safely, is taken."""
    x = ms.Placeholder((2,), wanted)
    output = ms.function(x, outputs=x)(make([1, 0], backend, given), device_get=True)
    assert output.dtype.name == wanted
    assert output.tolist() == [1, 0]


@pytest.mark.parametrize(("given", "wanted"), [("float32", "int32"), ("int32", "bool"), ("complex64", "float32")])
def test_arrays_of_the_backend_are_rejected_alike(backend, given, wanted):
    """An array of the backend's own that does not cast safely is an error with both dtypes."""
    x = ms.Placeholder((2,), wanted, name="weights")
    with pytest.raises(errors.InputTypeError, match=rf"weights.*dtype {wanted}.*got {given}"):
        ms.function(x, outputs=x)(make([1, 0], backend, given))


def test_integers_of_the_backend_out_of_range_are_errors(backend):
    """An integer array of the backend that does not fit the placeholder is an error, as one of NumPy is."""
    x = ms.Placeholder((2,), "int8", name="small")
    with pytest.raises(errors.InputTypeError, match=r"small.*range of int8.*300"):
        ms.function(x, outputs=x)(make([1, 300], backend, "int32"))


def test_a_declared_tensor_is_no_input(backend):
    """Calling a function on a tensor says that the tensor has no value now."""
    x = ms.Placeholder((2,))
    with pytest.raises(errors.InputTypeError, match="no value now"):
        ms.function(x, outputs=x)(x)


def test_arrays_of_another_backend_are_taken_by_value(backend):
    """Inputs are values: those of NumPy are taken by all, and those of array-api-strict by NumPy and the others."""
    strict = pytest.importorskip(
        "array_api_strict", reason="array-api-strict, the other backend here, is not installed"
    )
    x = ms.Placeholder((2,))
    assert ms.function(x, outputs=x)(strict.asarray([1.0, 2.0]), device_get=True).tolist() == [1.0, 2.0]


def test_a_placeholder_of_no_elements(backend):
    """Arrays without elements pass through, and lists without elements are such arrays."""
    x = ms.Placeholder((0, 3))
    output = ms.function(x, outputs=x * 2)(np.zeros((0, 3)), device_get=True)
    assert output.shape == (0, 3)
    y = ms.Placeholder((0,), "int32")
    with pytest.raises(errors.InputTypeError):
        ms.function(y, outputs=y)([])  # NumPy reads [] as floating
