"""Messages fit a screen, whatever a value is: of any length or depth, without end, or not to be printed."""

import pickle
import re

import pytest

import multisched as ms
from multisched import errors

LONG, WIDE, BIG = "x" * 10**6, [None] * 10**5, 10**5000
DEEP = []
for _ in range(10_000):
    DEEP = [DEEP]
ENDLESS = {}
ENDLESS["a"] = ENDLESS


class Unprintable:
    """An object whose `repr` fails."""

    def __repr__(self):
        raise ValueError("not yet")


VALUES = [LONG, WIDE, BIG, DEEP, ENDLESS, LONG.encode(), Unprintable(), {LONG: LONG}, (WIDE,)]


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
@pytest.mark.parametrize(
    "call",
    [
        lambda x: ms.linear(x, 0, 4),
        lambda x: ms.linear(1, 0, x),
        lambda x: ms.warmup(x, 3),
        lambda x: ms.piecewise_constant(0.1, {4: x}),
        lambda x: ms.piecewise_constant(0.1, x),
        lambda x: ms.join(x, x),
        lambda x: ms.join([ms.constant(1)] * 2, [x]),
        lambda x: ms.cyclic(0, 1, 4, mode=x),
        lambda x: ms.cosine_restarts(1, 4, cycles=x, period_mul=1.0000001),
        lambda x: ms.polynomial(1, 0, 4, cycle=x),
        lambda x: ms.maximum(ms.constant(1), x),
        lambda x: ms.constant(1)(x) if not isinstance(x, int) else ms.linear(x, 1, 1),
        lambda x: ms.ema(x),
        lambda x: ms.ema(0.5, init=x) if not isinstance(x, int | list) else ms.ema(x),
        lambda x: ms.sma(x) if not isinstance(x, int) else ms.sma(-x),
        lambda x: ms.paced(x),
        lambda x: ms.power_ema(x),
        lambda x: ms.from_config(x),
        lambda x: ms.from_config({"name": x}),
        lambda x: ms.from_config({"name": "linear", "init": x, "end": 0, "steps": 4}),
        lambda x: ms.from_config({"name": "delay", "schedule": x, "steps": 4}),
        lambda x: ms.from_config({"name": "constant", "value": 1, LONG: x}),
    ],
)
def test_messages_fit_a_screen(call, value):
    """However long, deep or strange a value is, the error is of the library, and its message fits a screen."""
    with pytest.raises(errors.MultischedError) as raised:
        call(value)
    assert 10 < len(str(raised.value)) <= 2000


def test_a_message_keeps_its_beginning_and_its_end():
    """The middle of a message that is too long is left out."""
    error = errors.ScheduleValueError("begins " + LONG + " ends")
    assert len(str(error)) <= 2000
    assert str(error).startswith("begins x")
    assert str(error).endswith("x ends")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_long_texts():
    """A text of a million characters is an error whose message fits a screen, and which has the whole text."""
    for text in (LONG, "(" * 10**4, "constant('" + LONG + "')", "cosine(" + LONG + "=1)", "1" * 10**6, "-" * 10**4):
        with pytest.raises(errors.ParseError) as raised:
            ms.parse(text)
        assert len(str(raised.value)) < 2000
        assert raised.value.text == text


def test_the_docstring_shows_every_class_in_its_family():
    """The tree in the docstring of the module has each class, below its base class of the library."""
    found, families = {}, {}
    _, _, tree = errors.__doc__.partition("by family:")
    for line in filter(None, tree.splitlines()):
        depth = (len(line) - len(line.lstrip())) // 4
        for name in line.strip().split(", "):
            found[name] = families.get(depth - 1)
            families[depth] = name
    classes = {n: c for n, c in vars(errors).items() if isinstance(c, type) and issubclass(c, errors.MultischedError)}
    bases = {name: [base for base in c.__bases__ if base in classes.values()] for name, c in classes.items()}
    assert found == {name: base[0].__name__ if base else None for name, base in bases.items()}


def test_the_docstring_names_no_other_class():
    """Each class that the docstring advises to catch exists."""
    names = re.findall(r"`([A-Z][A-Za-z]+)`", errors.__doc__)
    assert len(names) > 10
    assert all(hasattr(errors, name) for name in names)
