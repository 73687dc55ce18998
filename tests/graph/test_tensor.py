"""Declared tensors: how they print, what is the array API's about them, and what they refuse."""

import operator

import array_api_compat
import numpy as np
import pytest
from helpers import make, to_numpy

import multisched as ms
from multisched import errors


def test_tensors_print_as_documented(backend):
    """`repr` has the name, shape, dtype and scope, of variables also `trainable`, of operations `fn`."""
    with ms.Scope("enc"):
        x = ms.Placeholder((2,), "float32", name="x")
        w = ms.Variable([1, 2], name="w")
        total = x + w
    assert repr(x) == "Placeholder(name=x, shape=(2,), dtype=float32, scope=/enc/)"
    assert repr(w) == "Variable(name=w, shape=(2,), dtype=int32, trainable=True, scope=/enc/)"
    assert repr(total) == "Op(name=add, fn=add, shape=(2,), dtype=float32, scope=/enc/)"
    assert str(ms.Variable(1.0, trainable=False)) == (
        "Variable(name=Variable, shape=(), dtype=float32, trainable=False, scope=/)"
    )


@pytest.mark.parametrize(("value", "printed"), [(False, "False"), (3, "3"), (0.5, "0.5")])
def test_scalar_constants_print_as_their_value(backend, value, printed):
    """A constant update prints as the value, as the documented `first_step: False` does."""
    variable = ms.Variable(value)
    ms.add_updates({variable: value})
    assert repr(ms.get_updates()[variable]) == printed


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 2), (4, 1, 2)])
def test_attributes_are_those_of_an_array(backend, shape):
    """Shape, ndim, size and dtype are those of a NumPy array of that shape."""
    x, array = ms.Placeholder(shape, "int8"), np.zeros(shape, np.int8)
    assert (x.shape, x.ndim, x.size, x.dtype) == (array.shape, array.ndim, array.size, array.dtype.name)


def test_transposes(backend):
    """`T` is of a matrix, `mT` transposes the last two axes of anything with as many."""
    value = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    x = ms.Placeholder((2, 3, 2))
    f = ms.function(x, outputs=(x[0, ...].T, x.mT))
    transposed = [to_numpy(o, backend) for o in f(value)]
    assert transposed[0].tolist() == value[0].T.tolist()
    assert transposed[1].tolist() == value.transpose(0, 2, 1).tolist()
    with pytest.raises(errors.ShapeError, match=r"\(2, 3, 2\)"):
        _ = x.T
    with pytest.raises(errors.ShapeError, match=r"\(2,\)"):
        _ = ms.Placeholder((2,)).mT


def test_the_namespace_is_found_beside_numbers(backend):
    """`array_namespace` finds the recording namespace, one for each backend, for tensors of the backend and numbers."""
    x, y = ms.Placeholder(()), ms.Variable(0.0)
    xp = array_api_compat.array_namespace(x, 2.0, y)
    assert xp is x.__array_namespace__() is (x * 2).__array_namespace__()
    assert backend in repr(xp)


def test_tensors_are_keys(backend):
    """Tensors hash and compare as keys by identity, though `==` is elementwise."""
    a, b = ms.Variable(1.0), ms.Variable(1.0)
    table = {a: "a", b: "b"}
    assert (table[a], table[b]) == ("a", "b")
    assert a in table
    assert (a == b).dtype == "bool"
    assert to_numpy(ms.function(outputs=[a == b, a != b])()[0], backend).item() is True


BINARY = [
    *(operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow),
    *(operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne),
]


def others(backend, other):
    """What a tensor meets, and its values as NumPy has them."""
    theirs = 2.0 if other == "number" else np.asarray([2.0, 2.0], np.float32)
    return (make(theirs, backend) if other == "backend" else theirs), theirs


@pytest.mark.parametrize("other", ["numpy", "backend", "number"])
@pytest.mark.parametrize("op", BINARY, ids=lambda op: op.__name__)
def test_operators_take_arrays_and_numbers(backend, op, other):
    """A tensor meets arrays of NumPy and of its backend, and numbers."""
    given, theirs = others(backend, other)
    mine, x = np.asarray([3.0, 2.0], np.float32), ms.Placeholder((2,))
    assert to_numpy(ms.function(x, outputs=op(x, given))(mine), backend).tolist() == op(mine, theirs).tolist()


@pytest.mark.parametrize("other", ["numpy", "backend", "number"])
@pytest.mark.parametrize("op", BINARY, ids=lambda op: op.__name__)
def test_operators_take_arrays_and_numbers_from_the_left(backend, op, other):
    """Arrays of NumPy and of the backend, and numbers, leave an operator with a tensor to the tensor."""
    if (backend, other) == ("array_api_strict", "backend"):
        pytest.skip("the operators of array-api-strict raise for all but its own arrays and numbers")
    given, theirs = others(backend, other)
    mine, x = np.asarray([3.0, 2.0], np.float32), ms.Placeholder((2,))
    assert to_numpy(ms.function(x, outputs=op(given, x))(mine), backend).tolist() == op(theirs, mine).tolist()


def test_an_index_may_name_the_first_axes_alone(backend):
    """`x[0]` of a tensor of three axes is `x[0, ...]`, also where the standard leaves that to the backend."""
    x, value = ms.Placeholder((2, 3, 2)), np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    f = ms.function(x, outputs=(x[1], x[None, 1], x[:, 1], x[::-1]))
    found = [to_numpy(o, backend).tolist() for o in f(value)]
    assert found == [value[1].tolist(), value[None, 1].tolist(), value[:, 1].tolist(), value[::-1].tolist()]


STRANGERS = {"a string": "a", "None": None, "a list": [1.0, 2.0], "a dict": {}, "an object": object(), "a set": {1.0}}


# In Python's words; a string or list times a tensor asks the tensor for an integer first.
REFUSED = r"unsupported operand|not supported|can only concatenate|no value yet"
SOME = [operator.add, operator.mul, operator.pow, operator.matmul, operator.lt, operator.and_]


@pytest.mark.parametrize("stranger", STRANGERS.values(), ids=STRANGERS)
@pytest.mark.parametrize("op", SOME, ids=lambda op: op.__name__)
def test_operators_on_strangers_are_type_errors(backend, op, stranger):
    """With anything but tensors, arrays and numbers an operator is Python's own `TypeError`, on either side."""
    x = ms.Variable([1, 2])
    with pytest.raises(TypeError, match=REFUSED):
        op(x, stranger)
    with pytest.raises(TypeError, match=REFUSED):
        op(stranger, x)


@pytest.mark.parametrize("stranger", STRANGERS.values(), ids=STRANGERS)
def test_equality_with_strangers_is_identity(backend, stranger):
    """`==` with what is no array is False, and `!=` True, as Python has it."""
    x = ms.Variable([1, 2])
    assert (x == stranger) is False
    assert (x != stranger) is True


class Friend:
    """Knows how to meet tensors."""

    def __radd__(self, other):
        return "reflected"


def test_other_types_may_answer_operators(backend):
    """An operator that is not ours to answer is left to the other operand."""
    assert ms.Variable(1.0) + Friend() == "reflected"


def test_augmented_assignment_makes_a_new_tensor(backend):
    """`x += 1` names a new expression; the tensor that was there stays what it was."""
    w = first = ms.Variable(1.0)
    w += 1
    assert w is not first
    assert float(to_numpy(ms.function(outputs=w)(), backend)) == 2.0
    assert float(to_numpy(first.value, backend)) == 1.0


def test_tensors_take_no_attributes_and_no_items(backend):
    """Nothing can be set on a tensor or in it: mistakes are not kept silently."""
    w = ms.Variable([1.0, 2.0])
    with pytest.raises(AttributeError):
        w.note = 1
    with pytest.raises(TypeError):
        w[0] = 1.0


def test_an_array_of_a_foreign_type_is_named(backend):
    """An array of another backend in an expression is an error with its type and the backend of the expression."""
    pytest.importorskip("array_api_strict", reason="array-api-strict, the other backend here, is not installed")
    if backend == "array_api_strict":
        pytest.skip("here it is the backend itself, and NumPy's arrays are taken by all")
    x, array = ms.Placeholder((2,)), make([1.0, 2.0], "array_api_strict")
    with pytest.raises(errors.BackendMismatch, match=f"array_api_strict.*'{backend}'"):
        x.__array_namespace__().add(x, array)
