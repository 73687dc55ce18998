"""What the tests of the front end share: reading nested arrays, writing into arrays, and what an error must say."""

from contextlib import contextmanager, suppress

import pytest
from helpers import to_numpy


def host(part, backend):
    """Nested arrays as nested lists of dtypes and numbers, to be compared with `==`."""
    if isinstance(part, dict):
        return {key: host(value, backend) for key, value in part.items()}
    if isinstance(part, tuple | list):
        return [host(value, backend) for value in part]
    array = to_numpy(part, backend)
    return [array.dtype.name, array.tolist()]


def number(array, backend):
    """A scalar array as a Python number."""
    return to_numpy(array, backend).item()


def overwrite(array, value):
    """Write into an array, if it can be written into at all: those of JAX cannot."""
    with suppress(TypeError):
        array[...] = value


@contextmanager
def raises(error, *words):
    """Exactly this class is raised inside the block, and its message has all of the words."""
    with pytest.raises(error) as raised:
        yield raised
    assert type(raised.value) is error
    missing = [word for word in words if word not in str(raised.value)]
    assert not missing, f"{missing} not in: {raised.value}"
