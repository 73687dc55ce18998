"""Elementwise functions of declared tensors are those of arrays."""

import pytest
from helpers_ops import ELEMENTWISE, agrees

from multisched.graph import infer


@pytest.mark.parametrize("name", sorted(ELEMENTWISE))
def test_declared_as_computed(name, backend):
    """Shape, dtype and values of an elementwise function are those that it has on the backend's own arrays."""
    agrees(ELEMENTWISE[name], backend)


def test_every_function_is_in_the_table():
    """The table of tests and the tables of the library name the same elementwise functions."""
    assert set(ELEMENTWISE) == {*infer.UNARY, *infer.BINARY}
