"""Numbers of any kind are numbers: rules keep Python's own, so that what a class prints never becomes source."""

import enum
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from helpers import make

import multisched as ms
from multisched import errors
from multisched.arrays import as_real


class Size(enum.IntEnum):
    """What a program's settings may be."""

    FOUR = 4
    TWO = 2
    ONE = 1


class Hostile(int):
    """An int that prints what would be run, if it ever became source."""

    def __repr__(self):
        return "__import__('sys').exit('run')"

    __str__ = __format__ = lambda self, *spec: "__import__('sys').exit('run')"
    __int__ = __index__ = __float__ = lambda self: 99


class HostileFloat(float):
    """The same of a float."""

    def __repr__(self):
        return "__import__('sys').exit('run')"

    __str__ = __format__ = lambda self, *spec: "__import__('sys').exit('run')"
    __float__ = __trunc__ = lambda self: 99.0


KINDS = {
    "IntEnum": {1: Size.ONE, 2: Size.TWO, 4: Size.FOUR},
    "an int": {n: Hostile(n) for n in (1, 2, 4)},
    "numpy integers": {n: np.uint8(n) for n in (1, 2, 4)},
    "0-d arrays": {n: np.array(n) for n in (1, 2, 4)},
}
REAL = {
    "a float": HostileFloat,
    "numpy.float64": np.float64,
    "numpy.float32": np.float32,
    "numpy.longdouble": np.longdouble,
    "a fraction": Fraction,
    "a decimal": Decimal,
    "0-d arrays": lambda x: np.array(x, np.float32),
}
WHOLE = {
    "linear": lambda n: ms.linear(n(4), n(1), n(2), begin=n(1)),
    "piecewise_constant": lambda n: ms.piecewise_constant(n(1), {n(4): n(2)}),
    "piecewise_scale": lambda n: ms.piecewise_scale(n(1), {n(4): n(2)}),
    "piecewise_interpolate": lambda n: ms.piecewise_interpolate({n(1): n(2), n(4): n(1)}),
    "join": lambda n: ms.join([ms.constant(n(1)), ms.constant(n(2))], [n(4)]),
    "repeat": lambda n: ms.repeat(ms.linear(1, 0, 4), n(2)),
    "stretch": lambda n: ms.stretch(ms.linear(1, 0, 4), n(2)),
    "cosine_restarts": lambda n: ms.cosine_restarts(n(1), n(4), n(2), n(1), 0, n(4)),
    "cyclic": lambda n: ms.cyclic(n(1), n(2), n(4), n(2)),
    "arithmetic": lambda n: n(2) * ms.linear(n(1), 0, n(4)) + n(1) - ms.minimum(ms.constant(1), n(2)) ** n(2),
    "clip": lambda n: ms.clip(ms.linear(4, 0, n(4)), n(1), n(2)),
    "sma": lambda n: ms.sma(n(4)),
    "ema": lambda n: ms.ema(n(1), init=n(2)),
    "halflife": lambda n: ms.ema(halflife=n(4)),
    "paced": lambda n: ms.paced(ms.swa(), n(2), n(4)),
    "power_ema": lambda n: ms.power_ema(gamma=n(2)),
    "plateau": lambda n: ms.plateau(n(2), 0.5, n(4), cooldown=n(1), minimum=n(1)),
}
HALF = {
    "linear": lambda x: ms.linear(x, 2, 10 * x),
    "cosine": lambda x: ms.cosine(1, 10, x),
    "polynomial": lambda x: ms.polynomial(1, 0, 10, power=x),
    "arithmetic": lambda x: x * ms.constant(x) + x,
    "ema": lambda x: ms.ema(x, init=x),
    "power_ema": lambda x: ms.power_ema(gamma=x),
}


def checked(rule, expected):
    """`rule` is the same as one of Python's own numbers, to the last character."""
    assert repr(rule) == repr(expected)
    assert rule == expected
    assert ms.parse(repr(rule)) == expected
    assert rule.to_config() == expected.to_config()
    if isinstance(rule, ms.Schedule):
        assert [rule(k) for k in range(6)] == [expected(k) for k in range(6)]
        assert rule(np.arange(6)).tolist() == expected(np.arange(6)).tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", WHOLE)
def test_whole_numbers(rule, kind):
    """Steps, lengths, counts and values of any class of integers are those of Python."""
    numbers = KINDS[kind]
    if kind == "0-d arrays" and rule in ("piecewise_constant", "piecewise_scale", "piecewise_interpolate"):
        pytest.skip("an array is no key of a dict")
    checked(WHOLE[rule](numbers.__getitem__), WHOLE[rule](int))


@pytest.mark.parametrize("kind", REAL)
@pytest.mark.parametrize("rule", HALF)
def test_real_numbers(rule, kind):
    """So are values of any class of real numbers."""
    if rule in ("linear", "arithmetic") and kind in ("numpy.longdouble", "a float", "a decimal"):
        pytest.skip("the class itself calculates with the number first, and not we")
    checked(HALF[rule](REAL[kind](0.5)), HALF[rule](0.5))


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_arrays_without_an_axis(backend, dtype):
    """An array of any framework without an axis is the number in it."""
    four = make(4, backend, dtype)
    expected = 4 if dtype == "int32" else 4.0
    assert repr(ms.linear(four, 0, four)) == f"linear({expected}, 0, {expected})"
    assert repr(ms.constant(four)) == f"constant({expected})"
    if dtype == "int32":
        assert ms.sma(four) == ms.sma(4)
        assert ms.paced(ms.swa(), four) == ms.paced(ms.swa(), 4)
        assert ms.repeat(ms.constant(1), four).to_config()["period"] == 4


@pytest.mark.parametrize(
    "value", [True, np.True_, "4", 4j, None, [4], np.ones(1), np.array("4"), np.array(True), print]
)
def test_what_is_no_number(value):
    """Bools are none, nor texts, complex numbers, lists and None."""
    assert as_real(value) is None
    for call in (lambda: ms.linear(1, 0, value), lambda: ms.clip(ms.constant(1), value, 2), lambda: ms.sma(value)):
        with pytest.raises(errors.RuleError):
            call()


@pytest.mark.parametrize(
    "value", [Decimal("NaN"), Decimal("sNaN"), Decimal("1e999"), Fraction(10**400), np.float64("inf")]
)
def test_numbers_that_are_not_finite(value):
    """A number that double precision does not hold is an error."""
    for call in (lambda: ms.linear(value, 0, 4), lambda: ms.linear(1, 0, value)):
        with pytest.raises(errors.RuleError):
            call()


def test_an_integer_beyond_double_precision():
    """So is an integer, wherever it is a value or a step."""
    for call in (
        lambda: ms.constant(1) + 10**400,
        lambda: ms.constant(10**5000),
        lambda: ms.piecewise_constant(10**400, {}),
        lambda: ms.piecewise_constant(1, {10**400: 1}),
        lambda: ms.join([ms.constant(1)] * 2, [10**400]),
        lambda: ms.repeat(ms.constant(1), 10**400),
        lambda: ms.ema(0.5, init=10**400),
    ):
        with pytest.raises(errors.RuleError):
            call()


def test_a_formula_of_ones_own_with_such_a_number():
    """The number that a formula of one's own uses is one, whatever it prints."""

    @ms.schedule(lambda start: {"start": start})
    def own(xp, step, start):
        return start * step + start

    assert own(Hostile(2))(3) == 8
    assert own(HostileFloat(0.5))(3) == 2.0
    assert own(Size.TWO)(3) == 8
