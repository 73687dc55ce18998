"""Rules as text: the expression that builds them, with no more parentheses than it needs.

The text comes in pieces, from a stack of what is still to be written. So no rule is nested too deep for Python's own
stack, and an error message takes the first pieces of a long text without computing the rest.
"""

import inspect
from collections.abc import Iterator
from typing import Any

from multisched.schedules import compose
from multisched.schedules.catalogue import by_name, described
from multisched.schedules.readers import Schedules
from multisched.schedules.schedule import Formula, Schedule

_ATOM, _POWER, _NEGATIVE, _PRODUCT, _SUM = 4, 3, 2, 1, 0
_INFIX: dict[Formula, tuple[str, int, int, int]] = {
    constructor.__wrapped__: binding  # type: ignore[attr-defined]  # set by the decorator
    for constructor, binding in {  # the sign, how tightly it binds, and how tightly its operands must
        compose.add: ("+", _SUM, _SUM, _PRODUCT),
        compose.subtract: ("-", _SUM, _SUM, _PRODUCT),
        compose.multiply: ("*", _PRODUCT, _PRODUCT, _NEGATIVE),
        compose.divide: ("/", _PRODUCT, _PRODUCT, _NEGATIVE),
        compose.pow: ("**", _POWER, _ATOM, _NEGATIVE),
    }.items()
}
_MINUS: Formula = compose.negative.__wrapped__  # type: ignore[attr-defined]  # likewise

_Part = str | tuple[Any, int]
"""A text, or a value still to be written, with how tightly it must bind."""


def pieces(rule: Any) -> Iterator[str]:
    """The text of a schedule, or of a rule of averages, piece by piece."""
    stack: list[_Part] = [(rule, _SUM)]
    while stack:
        part = stack.pop()
        if isinstance(part, str):
            yield part
        else:
            stack += reversed(_parts(*part))


def _parts(value: Any, least: int) -> list[_Part]:
    """The pieces of a value, in parentheses if it binds less tightly than `least`."""
    if isinstance(value, Schedules):
        return ["[", *_separated([[(item, _SUM)] for item in value]), "]"]
    if isinstance(value, Schedule) and value._formula in _INFIX:
        sign, binds, left, right = _INFIX[value._formula]
        x1, x2 = value._arguments.values()
        parts: list[_Part] = [(x1, left), f" {sign} ", (x2, right)]
    elif isinstance(value, Schedule) and value._formula is _MINUS:
        binds, parts = _NEGATIVE, ["-", (value._arguments["x"], _NEGATIVE)]
    elif (called := described(value)) is not None:
        binds, parts = _ATOM, _call(value, *called)
    else:
        text = repr(value)
        binds, parts = _NEGATIVE if text.startswith("-") else _ATOM, [text]
    return ["(", *parts, ")"] if binds < least else parts


def _call(rule: Any, name: str | None, arguments: dict[str, Any]) -> list[_Part]:
    """A call of the constructor: arguments without a default by position, others by name if they differ from it."""
    if isinstance(rule, Schedule):
        name, parameters = name or rule.name, inspect.signature(rule._formula).parameters
    else:
        parameters = inspect.signature(by_name(str(name))).parameters
    first = None if isinstance(rule, Schedule) else next(iter(parameters), None)
    given: list[list[_Part]] = []
    for parameter in parameters.values():
        if parameter.name not in arguments:
            continue
        value = arguments[parameter.name]
        if parameter.default is inspect.Parameter.empty or (parameter.name == first and value is not None):
            given.append([(value, _SUM)])
        elif value is not parameter.default and value != parameter.default:
            given.append([f"{parameter.name}=", (value, _SUM)])
    return [f"{name}(", *_separated(given), ")"]


def _separated(items: list[list[_Part]]) -> list[_Part]:
    return [part for i, item in enumerate(items) for part in ([", "] if i else []) + item]
