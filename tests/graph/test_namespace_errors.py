"""Calls that no array could answer are errors when they are declared, not when a function runs."""

import numpy as np
import pytest

import multisched as ms
from multisched import errors

SHAPE, DTYPE = errors.ShapeError, errors.DTypeError


def tensor(dtype="float32", shape=(2, 3)):
    return ms.Placeholder(shape, dtype)


def calls(name, dtype, count=1):
    return lambda xp: getattr(xp, name)(*[tensor(dtype)] * count)


BAD = {
    # --- shapes
    "add of shapes that do not broadcast": (SHAPE, lambda xp: tensor() + tensor(shape=(2,)), r"\(2, 3\) and \(2,\)"),
    "where of such shapes": (
        *(SHAPE, lambda xp: xp.where(tensor("bool"), tensor(shape=(2,)), 1.0), r"where.*\(2, 3\).*\(2,\)"),
    ),
    "clip of such shapes": (SHAPE, lambda xp: xp.clip(tensor(), tensor(shape=(2,))), r"clip.*\(2, 3\).*\(2,\)"),
    "matmul of a scalar": (SHAPE, lambda xp: 2.0 @ tensor(), r"matmul.*\(\) and \(2, 3\)"),
    "matmul of lengths that differ": (SHAPE, lambda xp: tensor() @ tensor(), r"matmul.*\(2, 3\) and \(2, 3\)"),
    "matmul of stacks that do not broadcast": (
        *(SHAPE, lambda xp: tensor(shape=(2, 1, 1)) @ tensor(shape=(3, 1, 1)), r"matmul.*\(2,\) and \(3,\)"),
    ),
    "an axis that is not there": (SHAPE, lambda xp: xp.sum(tensor(), axis=2), r"sum: axis 2.*\(2, 3\)"),
    "an axis before the first": (SHAPE, lambda xp: xp.max(tensor(), axis=-3), r"max: axis -3.*\(2, 3\)"),
    "an axis twice": (SHAPE, lambda xp: xp.mean(tensor(), axis=(0, -2)), r"mean: axis \(0, -2\).*\(2, 3\)"),
    "an axis that is no integer": (SHAPE, lambda xp: xp.sum(tensor(), axis=1.0), r"sum.*1\.0"),
    "an axis that is a string": (SHAPE, lambda xp: xp.sum(tensor(), axis="rows"), "sum.*rows"),
    "argmax over two axes": (SHAPE, lambda xp: xp.argmax(tensor(), axis=(0, 1)), r"argmax.*\(0, 1\)"),
    "max of nothing": (SHAPE, lambda xp: xp.max(tensor(shape=(0, 3)), axis=0), r"max.*\(0, 3\)"),
    "argmin of nothing": (SHAPE, lambda xp: xp.argmin(tensor(shape=(0,))), r"argmin.*\(0,\)"),
    "reshape to another size": (SHAPE, lambda xp: xp.reshape(tensor(), (4,)), r"reshape.*\(2, 3\)"),
    "reshape with two unknowns": (SHAPE, lambda xp: xp.reshape(tensor(), (-1, -1)), r"reshape.*\(2, 3\)"),
    "permute_dims of too few axes": (SHAPE, lambda xp: xp.permute_dims(tensor(), (0,)), r"permute_dims.*\(2, 3\)"),
    "permute_dims of an axis twice": (SHAPE, lambda xp: xp.permute_dims(tensor(), (0, 0)), r"permute_dims.*\(2, 3\)"),
    "expand_dims too far": (SHAPE, lambda xp: xp.expand_dims(tensor(), axis=3), r"expand_dims.*\(2, 3\)"),
    "squeeze of an axis longer than 1": (SHAPE, lambda xp: xp.squeeze(tensor(), axis=0), r"squeeze.*\(2, 3\)"),
    "broadcast_to fewer axes": (SHAPE, lambda xp: xp.broadcast_to(tensor(), (3,)), r"broadcast_to.*\(2, 3\)"),
    "broadcast_to another length": (SHAPE, lambda xp: xp.broadcast_to(tensor(), (4, 3)), r"broadcast_to.*\(2, 3\)"),
    "concat of nothing": (SHAPE, lambda xp: xp.concat([]), r"concat.*\[\]"),
    "concat of scalars": (SHAPE, lambda xp: xp.concat([tensor(shape=())] * 2), r"concat.*\(\)"),
    "concat of a tensor": (SHAPE, lambda xp: xp.concat(tensor()), "concat.*list or tuple"),
    "concat of shapes that differ": (
        *(SHAPE, lambda xp: xp.concat([tensor(), tensor(shape=(2, 4))]), r"concat.*\(2, 3\) and \(2, 4\)"),
    ),
    "stack of shapes that differ": (
        *(SHAPE, lambda xp: xp.stack([tensor(), tensor(shape=(3, 2))]), r"stack.*\(2, 3\) and \(3, 2\)"),
    ),
    "stack too far": (SHAPE, lambda xp: xp.stack([tensor()], axis=3), r"stack.*\(2, 3\)"),
    "take without an axis": (SHAPE, lambda xp: xp.take(tensor(), tensor("int32", (2,))), "take.*axis"),
    "take by a matrix": (SHAPE, lambda xp: xp.take(tensor(), tensor("int32"), axis=0), "take.*1-dimensional"),
    # --- indices
    "an index out of range": (SHAPE, lambda xp: tensor()[2], "index 2 is out of bounds"),
    "an index out of range from the end": (SHAPE, lambda xp: tensor()[..., -4], "index -4 is out of bounds"),
    "too many indices": (SHAPE, lambda xp: tensor()[0, 0, 0], "too many indices"),
    "two ellipses": (SHAPE, lambda xp: tensor()[..., ...], "ellipsis"),
    "a slice that stands still": (SHAPE, lambda xp: tensor()[::0], "zero"),
    "an index of a float": (SHAPE, lambda xp: tensor()[1.0], r"1\.0.*integers, slices"),
    "an index of a bool": (SHAPE, lambda xp: tensor()[True], "True.*integers, slices"),
    "an index of a list": (SHAPE, lambda xp: tensor()[[0, 1]], r"\[0, 1\].*integers, slices"),
    "an index of two tensors": (SHAPE, lambda xp: tensor()[tensor("int32", ()), tensor("int32", ())], "integers, sl"),
    "rows of a scalar": (SHAPE, lambda xp: tensor(shape=())[tensor("int32", (1,))], r"take.*\(\)"),
    # --- dtypes
    "an index of a mask": (DTYPE, lambda xp: tensor()[tensor("bool")], "bool"),
    "an index of a floating tensor": (DTYPE, lambda xp: tensor()[tensor()], "float32"),
    "take by floats": (DTYPE, lambda xp: xp.take(tensor(), tensor(shape=(2,)), axis=0), "take.*float32"),
    "where of a condition of floats": (DTYPE, lambda xp: xp.where(tensor(), 1.0, 2.0), "where.*float32"),
    "complex as float": (DTYPE, lambda xp: xp.astype(tensor("complex64"), "float32"), "complex.*xp.real"),
    "a number out of range": (DTYPE, lambda xp: tensor("int8") + 300, "300.*int8"),
    "a negative number beside unsigned": (DTYPE, lambda xp: tensor("uint8") * -1, "-1.*uint8"),
    "NaN as an integer": (DTYPE, lambda xp: xp.full_like(tensor("int32"), np.nan), "nan.*int32"),
    "no dtype holds both": (DTYPE, lambda xp: tensor("int8") + xp.asarray(np.ones(3, np.uint64)), "uint64"),
    "matmul of bool": (DTYPE, lambda xp: tensor("bool") @ tensor("bool", (3,)), "matmul.*bool"),
}
# Kinds of dtype for which the standard does not define a function: some backends refuse, others answer in their ways.
UNDEFINED = {
    "bool": "abs ceil conj floor negative positive round sign square trunc isfinite isinf isnan max min argmax",
    "int32": "logical_not signbit",
    "float32": "bitwise_invert logical_not",
    "complex64": "ceil floor trunc signbit bitwise_invert logical_not max min argmax argmin std var",
}
UNDEFINED_2 = {
    "bool": "add subtract multiply pow floor_divide remainder maximum minimum bitwise_left_shift bitwise_right_shift",
    "int32": "logical_and logical_or logical_xor",
    "float32": "bitwise_and bitwise_or bitwise_xor bitwise_left_shift logical_and logical_or logical_xor",
    "complex64": "floor_divide remainder maximum minimum less less_equal greater greater_equal atan2 copysign hypot "
    "logaddexp nextafter bitwise_and logical_or",
}
for _count, _table in ((1, UNDEFINED), (2, UNDEFINED_2)):
    for _dtype, _names in _table.items():
        for _name in _names.split():
            BAD[f"{_name} of {_dtype}"] = (DTYPE, calls(_name, _dtype, _count), f"{_name}.*{_dtype}")


@pytest.mark.parametrize(("error", "call", "words"), BAD.values(), ids=BAD)
def test_errors_at_declaration(error, call, words):
    """The error has its own class and says which function, what was given, and where it does not fit."""
    with ms.use_backend("numpy"):
        xp = tensor().__array_namespace__()
        with pytest.raises(error, match=f"(?s){words}"):
            call(xp)


@pytest.mark.parametrize("call", [BAD["add of shapes that do not broadcast"][1], BAD["max of nothing"][1]])
def test_errors_are_those_of_all_backends(call, backend):
    """What cannot be declared cannot be on any backend, and declares nothing."""
    xp = tensor().__array_namespace__()
    with pytest.raises(errors.ShapeError):
        call(xp)
    assert ms.get_ops() == []


def test_what_is_not_offered_is_an_attribute_error(backend):
    """A function of the standard that is not there is missing like any attribute, with its name."""
    with pytest.raises(AttributeError, match="sort"):
        _ = tensor().__array_namespace__().sort
