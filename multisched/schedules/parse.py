"""Schedules and rules of averages as text: what `repr` prints, for command lines and config files.

A grammar of its own, over the names of the catalogue: nothing is evaluated by Python, and whatever is wrong is an error
at a column. A value is built as soon as it is read. Operators are read by precedence climbing; binding is Python's.
What recursion would be is a stack of generators, so that no text is nested too deep for Python's own stack:

    expression  operand, then signs `+ - * / **` with what follows them, the tighter first
    operand     `-` expression | `(` expression `)` | list | dict | name `(` arguments `)` | number | string | constant
"""

import math
import operator
import re
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

from multisched.errors import ArgumentError, ParseError, RuleError, shown
from multisched.schedules.catalogue import CATALOGUE, DEEPEST, RULES, Constructor, by_name, is_rule, similar
from multisched.schedules.decay import constant
from multisched.schedules.nested import run
from multisched.schedules.schedule import Schedule


def parse(text: str, names: Mapping[str, Constructor] | None = None) -> Any:
    """The schedule, or the rule of averages, that an expression describes: `parse(repr(lr)) == lr`.

    Parameters
    ----------
    text:
        A call of a schedule of the catalogue, with positional and keyword arguments, or of a schedule of another
        library after the name of its dialect: `torch.StepLR(0.1, step_size=30)`, or `torch:StepLR`, as in version 0.1.
        Arguments are numbers, `'strings'`, `True`, `False`, `None`, `[lists]`, `{step: value}` and schedules. Schedules
        and numbers are combined by `+ - * / **`, `abs(...)` and parentheses, as in Python. A number alone, `3e-4`,
        stands for `constant`. A rule of averages is a call too: `ema(halflife=100)`, `paced(ema(0.999), every=10)`.
    names:
        More constructors, by names such as `double` or `mine:double`. They have precedence over dialects and over what
        other packages register, but not over the library's own names.

    Returns a `Schedule`, or a rule of averages: `isinstance(rule, ms.Schedule)` tells which.

    Raises `ParseError` for another text, and for arguments that define no rule. The message points at the place, and
    the attribute `column`, counted from 1, gives it. Raises `TypeError` if `text` is not a string.

    You can use it as the type of an option of argparse, click or typer (`type=ms.parse`, `parser=ms.parse`), which then
    show the whole message.

    >>> parse("0.5 * warmup(cosine(0.1, 1000), 100)")
    0.5 * warmup(cosine(0.1, 1000), 100)
    >>> parse("cosine(0.1 * 256 / 128, steps=1_000)")
    cosine(0.2, 1000)
    >>> parse("paced(ema(0.999), every=10)")
    paced(ema(0.999), every=10)
    >>> parse("2 * linaer(1, 0, 10)")
    Traceback (most recent call last):
    multisched.errors.ParseError: No schedule or rule is called 'linaer'. Did you mean 'linear'? (column 5)
        2 * linaer(1, 0, 10)
            ^
    """
    if not isinstance(text, str):
        raise TypeError(f"parse takes a text, got {type(text).__name__}.")
    try:
        return _parsed(text, {} if names is None else names)
    except ParseError as error:
        if sys._getframe(1).f_globals.get("__name__") == "click.types":  # `type=ms.parse` of an option
            raise sys.modules["click"].BadParameter(str(error)) from error  # of other errors click 8.1 shows no message
        raise


def _parsed(text: str, names: Mapping[str, Constructor]) -> Any:
    parser = _Parser(text, names)
    part = run(parser.expression())
    if parser.token.kind != "end":
        parser.unexpected("an operator or the end")
    if type(part.value) in _NUMBERS:
        return constant(part.value)
    if not is_rule(part.value):
        what = "a schedule, such as constant(0.1), or a rule, such as ema(0.999)"
        raise ParseError(f"Expected {what}, got {shown(part.value)}.", text, part.column)
    return part.value


# --- tokens ----------------------------------------------------------------------------------------------------------
class _Token(NamedTuple):
    kind: str  # "number", "name", "string", "sign", "end"
    text: str
    column: int


_DIGITS, _WORD = "[0-9](?:_?[0-9])*", "[A-Za-z_][A-Za-z0-9_]*"
_TOKEN = re.compile(
    rf"(?P<number>(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][+-]?{_DIGITS})?)"
    rf"|(?P<name>{_WORD}(?:[.:]{_WORD})?)"
    r"|(?P<string>'[^'\\\n]*'|\"[^\"\\\n]*\")"
    r"|(?P<sign>\*\*|[-+*/()\[\]{},:=])"
)
_SPACE, _RUNS_ON = re.compile(r"[ \t\r\n]*"), re.compile(r"[A-Za-z0-9_.]")
_CONSTANTS: dict[str, Any] = {"True": True, "False": False, "None": None}


def _token(text: str, start: int) -> _Token:
    """The token at or after `start`."""
    start = _SPACE.match(text, start).end()  # type: ignore[union-attr]  # it always matches
    if start == len(text):
        return _Token("end", "", start + 1)
    found = _TOKEN.match(text, start)
    if found is None:
        string = "This string is not closed, or holds a backslash."
        raise ParseError(string if text[start] in "'\"" else f"Unexpected {text[start]!r}.", text, start + 1)
    if found.lastgroup == "number" and _RUNS_ON.match(text, found.end()):
        raise ParseError("This number runs into what follows.", text, start + 1)
    return _Token(str(found.lastgroup), found.group(), start + 1)


# --- numbers ---------------------------------------------------------------------------------------------------------
_NUMBERS = (int, float)  # and no bool
_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "pow": operator.pow,
    "negative": operator.neg,
    "abs": abs,
}
_LARGEST = 1024  # bits of an integer that a float can reach


def _calculated(name: str, *numbers: Any) -> int | float:
    """The operation on numbers. Raises `ArithmeticError` where it has no finite real value."""
    if name == "pow" and all(type(n) is int for n in numbers):
        base, exponent = numbers
        if exponent * (abs(base).bit_length() - 1) > _LARGEST:  # before it is computed
            raise OverflowError
    return _finite(_OPERATIONS[name](*numbers))


def _finite(number: Any) -> int | float:
    if isinstance(number, complex) or not math.isfinite(number):
        raise OverflowError
    return number  # type: ignore[no-any-return]  # an int or a float, of either operands or digits


def _read(digits: str) -> int | float:
    """A literal. Raises `ArithmeticError` for one too large."""
    plain = digits.replace("_", "")
    if not plain.isdigit():
        return _finite(float(plain))
    if len(plain) > _LARGEST:  # Python refuses some, and takes its time for others
        raise OverflowError
    return _finite(int(plain))


# --- the grammar -----------------------------------------------------------------------------------------------------
class _Part(NamedTuple):
    """A value that was read, and where it begins."""

    value: Any
    column: int


_Reading = Generator["_Reading", Any, Any]
"""A part of the text that is being read: yields the parts that it needs first, and returns what was read."""

_SIGNS = {"+": ("add", 0), "-": ("subtract", 0), "*": ("multiply", 1), "/": ("divide", 1), "**": ("pow", 2)}
_POWER = 2


def _with_a_colon(name: str) -> Constructor:
    """The constructor of a dialect as version 0.1 named it, `torch:StepLR`. Raises `KeyError` if there is none."""
    return by_name(name.replace(":", ".", 1))


class _Parser:
    """Reads a text from left to right, one token ahead."""

    def __init__(self, text: str, names: Mapping[str, Constructor]):
        self.text, self.names, self.brackets, self.token = text, names, 0, _token(text, 0)

    def error(self, message: str, column: int) -> ParseError:
        return ParseError(message, self.text, column)

    def unexpected(self, wanted: str) -> NoReturn:
        found = "the text ends" if self.token.kind == "end" else f"there is {self.token.text[:40]!r}"
        raise self.error(f"Expected {wanted}, but {found}.", self.token.column)

    def take(self) -> _Token:
        token = self.token
        self.token = _token(self.text, token.column - 1 + len(token.text))
        return token

    def at(self, sign: str) -> bool:
        return self.token.kind == "sign" and self.token.text == sign

    def expect(self, sign: str) -> None:
        if not self.at(sign):
            self.unexpected(f"{sign!r}")
        self.take()

    def expression(self, least: int = 0) -> _Reading:
        """An operand, and the signs after it that bind at least so tightly."""
        left = yield self.operand()
        while self.token.kind == "sign" and self.token.text in _SIGNS and _SIGNS[self.token.text][1] >= least:
            sign = self.take()
            name, binds = _SIGNS[sign.text]
            right = yield self.expression(binds if binds == _POWER else binds + 1)  # powers group to the right
            left = self.operation(name, sign.column, left, right)._replace(column=left.column)
        return left

    def operand(self) -> _Reading:
        kind, text, column = self.token
        if kind == "name":
            return (yield self.named())
        if kind in ("number", "string"):
            self.take()
            return _Part(self.number(text, column) if kind == "number" else text[1:-1], column)
        if text == "-":
            self.take()
            return self.operation("negative", column, (yield self.expression(_POWER)))
        if text == "(":
            self.take()
            inside = yield self.expression()
            self.expect(")")
            return inside._replace(column=column)
        if text == "[":
            items = yield self.bracketed("]", self.expression)
            return _Part([item.value for item in items], column)
        if text == "{":
            steps: dict[int, Any] = {}
            yield self.bracketed("}", lambda: self.pair(steps))
            return _Part(steps, column)
        self.unexpected("a schedule or a number")

    def number(self, text: str, column: int) -> int | float:
        if text[0] == "0" and text.strip("0_").isdigit():
            raise self.error("Integers do not begin with 0.", column)
        try:
            return _read(text)
        except ArithmeticError:
            raise self.error("This number is too large.", column) from None

    def bracketed(self, closing: str, item: Callable[[], _Reading]) -> _Reading:
        """The items of a list or a dict, which become containers of Python, and these do not like to be deep."""
        self.brackets += 1
        if self.brackets > DEEPEST:
            raise self.error(f"Lists and dicts are nested more than {DEEPEST} deep.", self.token.column)
        items = yield self.items(closing, item)
        self.brackets -= 1
        return items

    def items(self, closing: str, item: Callable[[], _Reading]) -> _Reading:
        """What stands between brackets, with commas; one may follow the last."""
        self.take()
        found = []
        while not self.at(closing):
            found.append((yield item()))
            if self.at(","):
                self.take()
            elif not self.at(closing):
                self.unexpected(f"',' or {closing!r}")
        self.take()
        return found

    def pair(self, steps: dict[int, Any]) -> _Reading:
        """One `step: value`, into the others."""
        key = yield self.expression()
        if type(key.value) is not int:
            raise self.error(f"Keys are steps, integers, got {shown(key.value)}.", key.column)
        if key.value in steps:
            raise self.error(f"Step {key.value} is there twice.", key.column)
        self.expect(":")
        steps[key.value] = (yield self.expression()).value

    def named(self) -> _Reading:
        token = self.take()
        if token.text in _CONSTANTS:
            return _Part(_CONSTANTS[token.text], token.column)
        constructor = self.constructor(token)
        if not self.at("("):
            self.unexpected(f"'(' and the arguments of {token.text}")
        keywords: dict[str, _Part] = {}
        around, self.brackets = self.brackets, 0  # what a call makes is no container
        arguments = yield self.items(")", lambda: self.argument(keywords))
        self.brackets = around
        positional = [part for part in arguments if part is not None]
        if token.text == "abs" and not keywords and [type(p.value) in _NUMBERS for p in positional] == [True]:
            return self.operation("abs", token.column, *positional)
        return self.built(constructor, token.text, token.column, positional, keywords)

    def constructor(self, token: _Token) -> Constructor:
        try:
            for names in (CATALOGUE, RULES, self.names):
                if token.text in names:
                    return names[token.text]
            for found in (by_name, _with_a_colon):
                with suppress(KeyError):
                    return found(token.text)
            hint = similar(token.text.replace(":", "."), *self.names)
        except RuleError as cause:  # of a package that cannot be imported
            raise self.error(str(cause), token.column) from cause
        raise self.error(f"No schedule or rule is called {token.text[:40]!r}.{hint}", token.column)

    def argument(self, keywords: dict[str, _Part]) -> _Reading:
        """A positional argument; one by keyword goes to the others."""
        name = self.token
        if name.kind == "name" and _token(self.text, name.column - 1 + len(name.text)).text == "=":
            if name.text in keywords:
                raise self.error(f"{name.text[:40]} is given twice.", name.column)
            self.take()
            self.take()
            keywords[name.text] = yield self.expression()
            return None
        if keywords:
            raise self.error("Positional arguments stand before those by keyword.", name.column)
        return (yield self.expression())

    def operation(self, name: str, column: int, *operands: _Part) -> _Part:
        """Arithmetic: of numbers at once, else a schedule."""
        values = [part.value for part in operands]
        if any(isinstance(value, Schedule) for value in values):
            return self.built(CATALOGUE[name], name, column, list(operands), {})
        if wrong := [value for value in values if type(value) not in _NUMBERS]:
            raise self.error(f"Arithmetic is of schedules and numbers, got {shown(wrong[0])}.", column)
        try:
            return _Part(_calculated(name, *values), column)
        except ArithmeticError:
            raise self.error("This has no finite real value.", column) from None

    def built(
        self, constructor: Constructor, name: str, column: int, positional: list[_Part], keywords: dict[str, _Part]
    ) -> _Part:
        try:
            rule = constructor(*(p.value for p in positional), **{k: p.value for k, p in keywords.items()})
        except ArgumentError as cause:  # it names the constructor itself
            raise self.error(str(cause), column) from cause
        except Exception as cause:  # names may lead anywhere; the cause is kept
            raise self.error(f"{name}: {cause}", column) from cause
        if not is_rule(rule):
            raise self.error(f"{name} makes no schedule or rule.", column)
        return _Part(rule, column)
