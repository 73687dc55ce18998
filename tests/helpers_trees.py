"""Drawn arithmetic of schedules: each tree with its values in plain Python, and how far float32 may be from them.

The bound is a running error analysis. What an operand may be off by is carried through an operation at its corners
(each operation drawn here is monotonic in each operand, so nothing between them is farther off); the operation then
adds its own rounding, in units of half a unit in the last place at its largest result.
"""

import ast
import io
import operator
import tokenize
from itertools import product
from typing import Any, NamedTuple

from hypothesis import strategies as st

import multisched as ms

STEPS = (0, 1, 2, 3, 4, 5, 6, 7, 9, 1000)
HALF_ULP = 2.0**-24
BINARY = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
    "minimum": min,
    "maximum": max,
}
ON_SCHEDULES = {**BINARY, "minimum": ms.minimum, "maximum": ms.maximum}
UNARY = {"neg": operator.neg, "abs": abs}
ROUNDING = {"minimum": 0, "maximum": 0, "/": 2, "**": 8}  # of the others 1: they are rounded correctly


class Tree(NamedTuple):
    """A schedule or number; its value at each of STEPS, and by how much float32 may miss it."""

    made: Any
    values: tuple[float, ...]
    errors: tuple[float, ...]


def _leaf(made, values, halves=1):
    largest = max(map(abs, values))
    return Tree(made, tuple(values), (halves * HALF_ULP * largest,) * len(STEPS))


numbers = st.one_of(st.integers(-4, 4), st.floats(0.125, 4, width=32), st.floats(-4, -0.125))


@st.composite
def schedules(draw):
    """Jumps, and a line."""
    init, end = draw(numbers), draw(numbers)
    if draw(st.booleans()):
        key, later = draw(st.integers(0, 4)), draw(st.integers(5, 8))
        last = draw(numbers)
        values = [init if k < key else end if k < later else last for k in STEPS]
        return _leaf(ms.piecewise_constant(init, {later: last, key: end}), values)
    length = draw(st.integers(1, 9))
    done = [min(k / length, 1.0) for k in STEPS]
    values = [init * (1 - d) + end * d for d in done]
    line = _leaf(ms.linear(init, end, length), values)
    bound = 6 * HALF_ULP * max(abs(init), abs(end))  # 1 for each end, the quotient, the difference, product and sum
    return line._replace(errors=(bound,) * len(STEPS))


@st.composite
def trees(draw, depth=3):
    """A tree with at least one schedule in it."""
    if depth == 0:
        return draw(schedules())
    kind = draw(st.sampled_from(("both", "left", "right", "one", "leaf")))
    if kind == "leaf":
        return draw(schedules())
    below = trees(depth=depth - 1)
    if kind == "one":
        return _unary(draw(st.sampled_from(tuple(UNARY))), draw(below))
    first, second = draw(below), draw(below if kind == "both" else numbers.map(lambda n: _leaf(n, [n] * len(STEPS))))
    if kind == "right":
        first, second = second, first
    return _binary(draw(st.sampled_from(_defined(first, second))), first, second)


def _defined(first, second):
    """The operations whose results here are real, finite and of a moderate size."""
    names = ["+", "-", "minimum", "maximum"]
    most, other = max(map(abs, first.values)), max(map(abs, second.values))
    if most * other < 1e4:
        names.append("*")
    if min(map(abs, second.values)) >= 0.125 and max(second.errors) < 0.01:
        names.append("/")
    if min(first.values) >= 0.125 and most <= 8 and other <= 3 and max(first.errors) < 0.01:
        names.append("**")
    return names


def _unary(name, x):
    call = UNARY[name]
    return Tree(call(x.made), tuple(map(call, x.values)), x.errors)


def _binary(name, first, second):
    call, values, errors = BINARY[name], [], []
    for a, b, off_a, off_b in zip(first.values, second.values, first.errors, second.errors, strict=True):
        value = call(a, b)
        corners = [call(x, y) for x, y in product((a - off_a, a + off_a), (b - off_b, b + off_b))]
        carried = max(abs(corner - value) for corner in corners)
        values.append(value)
        errors.append(carried + ROUNDING.get(name, 1) * HALF_ULP * max(map(abs, corners)))
    return Tree(ON_SCHEDULES[name](first.made, second.made), tuple(values), tuple(errors))


# --- parentheses -----------------------------------------------------------------------------------------------------
def superfluous_parentheses(text):
    """The pairs of parentheses, by position, without which `text` would still mean the same."""
    meaning, found = ast.dump(ast.parse(text, mode="eval")), []
    for start, end in _pairs(text):
        without = text[:start] + text[start + 1 : end] + text[end + 1 :]
        try:
            same = ast.dump(ast.parse(without, mode="eval")) == meaning
        except SyntaxError:
            same = False
        if same:
            found.append((start, end))
    return found


def _pairs(text):
    """Where parentheses that group begin and end; those of calls are not among them."""
    pairs, opened, before = [], [], None
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.string == "(":
            opened.append((token.start[1], before is not None and before.type == tokenize.NAME))
        elif token.string == ")":
            start, call = opened.pop()
            if not call:
                pairs.append((start, token.start[1]))
        before = token
    return pairs
