"""Variables and placeholders: what they are made of, what they hold, and what changes it."""

import ml_dtypes
import numpy as np
import pytest
from helpers import make, to_numpy
from helpers_frontend import host, number, overwrite, raises

import multisched as ms
from multisched import errors

IMPLIED = {
    "a float": (1.5, "float32"),
    "an int": (3, "int32"),
    "a bool": (True, "bool"),
    "a complex": (1j, "complex64"),
    "a list of floats": ([1.5, 2.0], "float32"),
    "a list of ints": ([1, 2], "int32"),
    "a list of bools": ([True, False], "bool"),
    "ints and floats": ([1, 2.5], "float32"),
    "nested lists": ([[1.0], [2.0]], "float32"),
    "no elements": ([], "float32"),
    "a NumPy scalar": (np.float32(1.5), "float32"),
    "a small NumPy scalar": (np.int8(3), "int8"),
    "half precision": (np.ones(2, np.float16), "float16"),
    "bytes": (np.ones(2, np.uint8), "uint8"),
}


@pytest.mark.parametrize(("init", "dtype"), IMPLIED.values(), ids=IMPLIED)
def test_the_dtype_follows_from_the_value(backend, init, dtype):
    """Python's numbers become float32, int32, bool or complex64 (law 7); arrays keep their dtype."""
    if not ms.get_backend().supports(dtype):
        pytest.skip("array-api-strict has no half precision")
    v = ms.Variable(init)
    assert v.dtype == dtype
    assert v.shape == np.shape(init)
    assert host(v.value, backend) == [dtype, np.asarray(init).astype(dtype).tolist()]


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint64", "complex128"])
def test_wide_arrays_keep_their_dtype_where_there_is_one(backend, dtype):
    """A NumPy array of 64 bits keeps them, or becomes 32 bits where the backend has no more, as JAX by default."""
    narrow = {"float64": "float32", "int64": "int32", "uint64": "uint32", "complex128": "complex64"}[dtype]
    expected = dtype if ms.get_backend().supports(dtype) else narrow
    assert (expected == narrow) == (backend == "jax")
    assert ms.Variable(np.ones(2, dtype)).dtype == expected


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "float16", "float32", "bfloat16", "complex64"])
def test_an_array_of_the_backend_keeps_its_dtype(backend, dtype):
    """A variable made of an array of the backend has its dtype, shape and backend, whatever backend is in use."""
    if not ms.get_backend().supports(dtype):
        pytest.skip("array-api-strict has no half precision")
    array = make([[1, 0]], backend, dtype)
    with ms.use_backend("numpy"):
        v = ms.Variable(array)
    assert (v.dtype, v.shape) == (dtype, (1, 2))
    assert v.backend is ms.get_backend(backend)


ASKED = {
    "a name": ("float16", "float16"),
    "a NumPy type": (np.float16, "float16"),
    "a NumPy dtype": (np.dtype("int8"), "int8"),
    "NumPy's bool": (np.bool_, "bool"),
    "float": (float, "float32"),
    "int": (int, "int32"),
    "bool": (bool, "bool"),
    "complex": (complex, "complex64"),
    "bfloat16 of ml_dtypes": (ml_dtypes.bfloat16, "bfloat16"),
}


@pytest.mark.parametrize(("asked", "dtype"), ASKED.values(), ids=ASKED)
@pytest.mark.parametrize("kind", ["variable", "placeholder"])
def test_dtypes_are_given_in_any_way(backend, kind, asked, dtype):
    """`dtype=` takes a name, a type of Python's or NumPy's, and a dtype of NumPy's."""
    if not ms.get_backend().supports(dtype):
        pytest.skip("array-api-strict has no half precision")
    tensor = ms.Variable([True, False], dtype=asked) if kind == "variable" else ms.Placeholder((2,), asked)
    assert tensor.dtype == dtype
    outputs = ms.function(*([tensor] * (kind == "placeholder")), outputs=tensor)
    value = outputs() if kind == "variable" else outputs([True, False])
    assert value.dtype == ms.get_backend().dtype(dtype)


def test_the_backends_own_dtypes_are_taken(backend):
    """`dtype=` takes the dtype of the backend, as `array.dtype` gives it."""
    own = make(1, backend, "int16").dtype
    assert ms.Variable(1, dtype=own).dtype == ms.Placeholder((), own).dtype == "int16"


def test_a_dtype_that_the_backend_lacks_is_an_error():
    """JAX without 64 bits says so, and how to have them; array-api-strict has no bfloat16."""
    pytest.importorskip("jax", reason="the backend that lacks a dtype by default is JAX")
    with raises(errors.DTypeError, "'jax'", "'float64'", "jax_enable_x64"):
        ms.Variable(1.0, dtype="float64", backend="jax")
    with raises(errors.DTypeError, "'jax'", "'float64'", "jax_enable_x64"):
        ms.Placeholder((), "float64", backend="jax")
    assert ms.get_variables() == ms.get_placeholders() == []


@pytest.mark.parametrize(
    ("shape", "expected"), [((), ()), (3, (3,)), ([2, 1], (2, 1)), ((0,), (0,)), (np.int8(2), (2,))]
)
def test_shapes_of_placeholders(backend, shape, expected):
    """A shape is a tuple or list of sizes, or one size."""
    x = ms.Placeholder(shape)
    assert x.shape == expected
    assert all(type(n) is int for n in x.shape)
    assert ms.function(x, outputs=x)(np.ones(expected), device_get=True).tolist() == np.ones(expected).tolist()


def test_defaults_are_as_documented(backend):
    """A placeholder is float32 and a variable trainable, and each is named after its kind."""
    x, v = ms.Placeholder((2,)), ms.Variable(0.0)
    assert (x.name, x.dtype, v.name, v.trainable) == ("Placeholder", "float32", "Variable", True)
    assert x.backend is v.backend is ms.get_backend(backend)


@pytest.mark.parametrize("given", ["array", "NumPy array", "input"])
def test_a_variable_copies_what_it_is_made_of(backend, given):
    """Writing into the array given does not reach the variable, nor what it resets to (law 8)."""
    n = 4096
    array = make(np.ones(n), backend) if given == "array" else np.ones(n, np.float32)
    v = ms.Variable(array if given != "input" else np.zeros(n, np.float32))
    if given == "input":
        v.update(array)
    overwrite(array, 9.0)
    assert to_numpy(v.value, backend).max() == 1.0
    v.reset()
    assert to_numpy(v.value, backend).max() == (0.0 if given == "input" else 1.0)


def test_a_broadcast_array_is_copied_as_well(backend):
    """An array of one number in memory, broadcast, is copied too, and the variable has a number for each element."""
    one = np.ones(1, np.float32)
    v = ms.Variable(np.broadcast_to(one, (3,)))
    one[0] = 9.0
    ms.function(updates={v: v + np.asarray([0, 1, 2], np.float32)})()
    assert to_numpy(v.value, backend).tolist() == [1.0, 2.0, 3.0]
    v.reset()
    assert to_numpy(v.value, backend).tolist() == [1.0, 1.0, 1.0]


def test_value_is_a_snapshot(backend):
    """`value` stays what it was through updates, resets and calls, and writing into it changes nothing."""
    v = ms.Variable([1.0, 2.0])
    snapshot = v.value
    v.update([3.0, 4.0])
    ms.function(updates={v: v * 2})()
    later = v.value
    v.reset()
    assert [to_numpy(a, backend).tolist() for a in (snapshot, later, v.value)] == [[1, 2], [6, 8], [1, 2]]
    overwrite(snapshot, 9.0)
    overwrite(later, 9.0)
    assert to_numpy(v.value, backend).tolist() == [1.0, 2.0]


def test_reading_changes_nothing(backend):
    """Reading `value` any number of times gives equal, separate arrays."""
    v = ms.Variable([1.0])
    first, second = v.value, v.value
    assert first is not second
    assert host(first, backend) == host(second, backend) == ["float32", [1.0]]


UPDATES = {
    "a list": [3, 4],
    "a NumPy array": np.asarray([3.0, 4.0]),
    "integers": np.asarray([3, 4], np.int16),
    "half precision": np.asarray([3, 4], np.float16),
    "reversed": np.asarray([4.0, 3.0])[::-1],
    "read-only": np.frombuffer(np.asarray([3, 4], np.float32).tobytes(), np.float32),
}


@pytest.mark.parametrize("value", UPDATES.values(), ids=UPDATES)
def test_update_takes_what_casts_safely(backend, value):
    """`update` takes arrays and lists of the shape, of any dtype that casts without loss of kind, and keeps its own."""
    v = ms.Variable([1.0, 2.0])
    v.update(value)
    assert host(v.value, backend) == ["float32", [3.0, 4.0]]
    v.update(make([5, 6], backend, "int8"))
    assert host(v.value, backend) == ["float32", [5.0, 6.0]]


def test_a_scalar_array_is_copied_as_well(backend):
    """An array without axes is copied: writing into it reaches neither the variable nor what it resets to."""
    one = np.asarray(1.0, np.float32)
    v = ms.Variable(one)
    one[...] = 9.0
    assert number(v.value, backend) == 1.0
    v.reset()
    assert number(v.value, backend) == 1.0


@pytest.mark.parametrize("init", [0.0, [1.5, -2.5], [[True]], np.zeros((0, 3)), np.full(3, 7)], ids=str)
def test_reset_brings_back_the_first_value(backend, init):
    """`reset` restores values of any shape and dtype, again and again."""
    v = ms.Variable(init)
    first = host(v.value, backend)
    for _ in range(2):
        v.update(np.ones(v.shape, v.dtype))
        v.reset()
        assert host(v.value, backend) == first


def test_a_variable_on_a_device(backend):
    """`device=` takes the name of a device or the device itself; values and outputs stay there."""
    reference = make(1.0, backend)
    adapter = ms.get_backend()
    device = adapter.device_of(reference)
    v = ms.Variable(1.0, device=device)
    assert adapter.device_of(v.value) == device
    output = ms.function(outputs=v + 1, updates={v: v + 1})()
    assert adapter.device_of(output) == adapter.device_of(v.value) == device
    if backend in ("jax", "torch", "numpy"):
        assert number(ms.Variable(2.0, device="cpu").value, backend) == 2.0


def test_rules_live_on_their_device(backend):
    """A declared schedule keeps its counter on `device=`, a statistic its state beside its value."""
    adapter = ms.get_backend()
    device = adapter.device_of(make(1.0, backend))
    lr = ms.PiecewiseConstant(0.1, {}, device=device)
    average, _ = ms.ExponentialMovingAverage(ms.Variable([1.0], device=device), 0.5)
    assert {str(adapter.device_of(v.value)) for v in (*lr.variables, *average.variables)} == {str(device)}


def test_jax_places_variables_on_devices_by_number():
    """JAX takes a platform with a number, and says which devices there are when there is no such one."""
    jax = pytest.importorskip("jax", reason="devices by number are JAX's")
    v = ms.Variable(1.0, backend="jax", device="cpu:0")
    assert v.value.devices() == {jax.devices("cpu")[0]}
    with raises(errors.DeviceError, "'cpu:99'", "cpu:0"):
        ms.Variable(1.0, backend="jax", device="cpu:99")


def test_torch_variables_carry_no_gradient():
    """A variable made of a tensor that requires gradients, or updated with one, does not: state never does (law 8)."""
    torch = pytest.importorskip("torch", reason="only torch's arrays carry gradients")
    leaf = torch.ones(2, requires_grad=True)
    v = ms.Variable(leaf)
    assert not v.value.requires_grad
    v.update(leaf * 2)
    assert not v.value.requires_grad
    assert v.value.tolist() == [2.0, 2.0]
