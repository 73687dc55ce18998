"""The namespace of Python numbers: it turns a formula into Python source, which is compiled once.

`lr(5)` in a user's loop then costs little more than the formula written out by hand. It needs no dispatch and no array,
and a composition of schedules becomes straight-line code. Where that is impossible (the formula has an `if` of its own,
or divides by zero in a branch that is not taken), NumPy computes the value in double precision.
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

import numpy as np

from multisched.arrays import as_real, dtype_name, kind_of, namespace_of

OnNumber = Callable[[Any], float]
_DEEPEST = 20  # operations nested in one Python expression; what lies deeper becomes a statement of its own
_LARGEST = int(np.finfo(np.float64).max)
_NAMES = {name: getattr(math, name) for name in dir(math) if not name.startswith("_")}


class NotWrittenOut(Exception):
    """A formula asks a number for its value, which is not known when the source is written."""


_Binary = Callable[[Any, Any], "Number"]
_Refused = Callable[..., NoReturn]


def _binary(sign: str, *, reflected: bool = False, floating: bool | None = None) -> _Binary:
    text = f"({{1}} {sign} {{0}})" if reflected else f"({{0}} {sign} {{1}})"
    return lambda self, other: Number(text, self, other, floating=floating)


class Number:
    """A Python number that depends on the step: the template of an expression, and the numbers to put into it."""

    __slots__ = ("arguments", "floating", "text")
    text: str
    arguments: tuple[Any, ...]
    floating: bool

    def __init__(self, text: str, *arguments: Any, floating: bool | None = None):
        self.text, self.arguments = text, arguments
        self.floating = any(map(_is_floating, arguments)) if floating is None else floating

    __add__: ClassVar[_Binary] = _binary("+")
    __radd__: ClassVar[_Binary] = _binary("+", reflected=True)
    __sub__: ClassVar[_Binary] = _binary("-")
    __rsub__: ClassVar[_Binary] = _binary("-", reflected=True)
    __mul__: ClassVar[_Binary] = _binary("*")
    __rmul__: ClassVar[_Binary] = _binary("*", reflected=True)
    __truediv__: ClassVar[_Binary] = _binary("/", floating=True)
    __rtruediv__: ClassVar[_Binary] = _binary("/", reflected=True, floating=True)
    __floordiv__: ClassVar[_Binary] = _binary("//")
    __rfloordiv__: ClassVar[_Binary] = _binary("//", reflected=True)
    __mod__: ClassVar[_Binary] = _binary("%")
    __rmod__: ClassVar[_Binary] = _binary("%", reflected=True)
    __and__: ClassVar[_Binary] = _binary("and")
    __or__: ClassVar[_Binary] = _binary("or")
    __lt__: ClassVar[_Binary] = _binary("<")
    __le__: ClassVar[_Binary] = _binary("<=")
    __gt__: ClassVar[_Binary] = _binary(">")
    __ge__: ClassVar[_Binary] = _binary(">=")
    __eq__: ClassVar[_Binary] = _binary("==")  # type: ignore[assignment]  # elementwise, as the array API has it
    __ne__: ClassVar[_Binary] = _binary("!=")  # type: ignore[assignment]  # likewise
    __hash__: ClassVar[Callable[[Any], int]] = object.__hash__  # which `__eq__` would remove

    def __pow__(self, other: Any) -> "Number":
        return Number("pow({}, {})", self, other, floating=True)  # math.pow, which knows no complex numbers

    def __rpow__(self, other: Any) -> "Number":
        return Number("pow({}, {})", other, self, floating=True)

    def __neg__(self) -> "Number":
        return Number("(-{})", self)

    def __abs__(self) -> "Number":
        return Number("abs({})", self)

    def __invert__(self) -> "Number":
        return Number("(not {})", self)

    def _has_no_value(self, *args: Any) -> NoReturn:
        raise NotWrittenOut

    __bool__: ClassVar[_Refused] = _has_no_value
    __float__: ClassVar[_Refused] = _has_no_value
    __int__: ClassVar[_Refused] = _has_no_value
    __index__: ClassVar[_Refused] = _has_no_value
    __complex__: ClassVar[_Refused] = _has_no_value
    __iter__: ClassVar[_Refused] = _has_no_value
    __len__: ClassVar[_Refused] = _has_no_value
    __array__: ClassVar[_Refused] = _has_no_value


def _is_floating(value: Any) -> bool:
    return value.floating if isinstance(value, Number) else isinstance(value, float | np.floating)


_Function = Callable[[Any, Any], Number]


def _function(name: str, floating: bool | None = True) -> _Function:
    return lambda self, x: Number(f"{name}({{}})", x, floating=floating)


class PythonNumbers:
    """The functions of the array API that schedules use, on numbers that depend on the step."""

    __name__ = "python_numbers"
    pi: ClassVar[float] = math.pi
    e: ClassVar[float] = math.e
    inf: ClassVar[float] = math.inf
    nan: ClassVar[float] = math.nan
    int32: ClassVar[str] = "int32"
    int64: ClassVar[str] = "int64"
    float32: ClassVar[str] = "float32"
    float64: ClassVar[str] = "float64"
    exp: ClassVar[_Function] = _function("exp")
    expm1: ClassVar[_Function] = _function("expm1")
    log: ClassVar[_Function] = _function("log")
    log1p: ClassVar[_Function] = _function("log1p")
    log2: ClassVar[_Function] = _function("log2")
    sqrt: ClassVar[_Function] = _function("sqrt")
    sin: ClassVar[_Function] = _function("sin")
    cos: ClassVar[_Function] = _function("cos")
    tan: ClassVar[_Function] = _function("tan")
    sinh: ClassVar[_Function] = _function("sinh")
    cosh: ClassVar[_Function] = _function("cosh")
    tanh: ClassVar[_Function] = _function("tanh")
    floor: ClassVar[_Function] = _function("floor", floating=False)
    ceil: ClassVar[_Function] = _function("ceil", floating=False)
    trunc: ClassVar[_Function] = _function("trunc", floating=False)
    bool: ClassVar[str] = "bool"

    def where(self, condition: Any, x1: Any, x2: Any) -> Number:
        return Number("({1} if {0} else {2})", condition, x1, x2, floating=_is_floating(x1) and _is_floating(x2))

    def minimum(self, x1: Any, x2: Any) -> Number:
        return self.where((x1 < x2) | (x1 != x1), x1, x2)  # NaN if either is, as of arrays

    def maximum(self, x1: Any, x2: Any) -> Number:
        return self.where((x1 > x2) | (x1 != x1), x1, x2)

    def clip(self, x: Any, min: Any = None, max: Any = None) -> Any:
        x = x if min is None else self.maximum(x, min)
        return x if max is None else self.minimum(x, max)

    def abs(self, x: Any) -> Any:
        return abs(x)

    def pow(self, x1: Any, x2: Any) -> Any:
        return x1**x2

    def astype(self, x: Any, dtype: Any) -> Any:
        return self.asarray(x, dtype=dtype)

    def asarray(self, value: Any, *, dtype: Any = None, device: Any = None) -> Any:
        kind = "" if dtype is None else kind_of(dtype_name(dtype))
        if isinstance(value, Number):
            return Number("int({})", value, floating=False) if kind == "int" and value.floating else value
        return float(value) if kind == "float" else value

    def full_like(self, x: Any, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Any:
        return self.asarray(fill_value, dtype=dtype)

    def call(self, function: OnNumber, step: Any) -> Number:
        """`function(step)`, for what is simpler in Python than as a formula, such as a search."""
        return Number("{}({})", function, step, floating=True)

    def __repr__(self) -> str:
        return self.__name__


python_numbers: PythonNumbers = PythonNumbers()


def on_numbers(formula: Callable[[Any, Any], Any]) -> OnNumber:
    """`formula(xp, step)` as a function of a Python number, in double precision."""

    def as_arrays(step: Any) -> float:
        value = np.float64(max(-_LARGEST, min(step, _LARGEST)) if type(step) is int else step)
        with np.errstate(all="ignore"):
            return float(formula(namespace_of(value), value))

    step = Number("step")
    try:
        result = formula(python_numbers, step)
    except (NotWrittenOut, AttributeError, TypeError, ArithmeticError):
        return as_arrays
    return _compiled(result, as_arrays)


def _compiled(result: Any, otherwise: OnNumber) -> OnNumber:
    names: dict[str, Any] = {**_NAMES, "otherwise": otherwise}
    lines, text = _written(result, names)
    if not _is_floating(result):
        text = f"float({text})"
    body = "".join(f"        {line}\n" for line in [*lines, f"return {text}"])
    errors = "(ArithmeticError, ValueError)"  # where arrays give infinity or NaN
    source = f"def on_number(step):\n    try:\n{body}    except {errors}:\n        return otherwise(step)\n"
    exec(compile(source, "<multisched schedule>", "exec"), names)
    compiled: OnNumber = names["on_number"]
    return compiled


def _written(result: Any, names: dict[str, Any]) -> tuple[list[str], str]:
    """The statements that compute the parts of a number, and the expression for the number itself."""
    order, uses = _ordered(result)
    lines: list[str] = []
    texts: dict[int, str] = {}
    depths: dict[int, int] = {}

    def of(value: Any) -> str:
        if isinstance(value, Number):
            return texts[id(value)]
        number = value if isinstance(value, bool) else as_real(value)  # whose repr is a literal, whatever it was
        if isinstance(number, int) or (isinstance(number, float) and math.isfinite(number)):
            return repr(number) if number >= 0 else f"({number!r})"
        name = f"k{len(names)}"
        names[name] = value
        return name

    for number in order:
        text = number.text.format(*map(of, number.arguments))
        depth = 1 + max((depths.get(id(a), 0) for a in number.arguments), default=0)
        if number.arguments and (uses[id(number)] > 1 or depth > _DEEPEST):
            lines.append(f"t{len(lines)} = {text}")
            text, depth = f"t{len(lines) - 1}", 0
        texts[id(number)], depths[id(number)] = text, depth
    return lines, of(result)


def _ordered(result: Any) -> tuple[list[Number], dict[int, int]]:
    """The numbers inside `result`, each after its own parts, and how often each is used."""
    uses: dict[int, int] = {}
    done: dict[int, Number] = {}
    stack = [result] if isinstance(result, Number) else []
    while stack:
        number = stack[-1]
        waiting = [a for a in number.arguments if isinstance(a, Number) and id(a) not in done]
        if waiting and id(number) not in done:
            stack += waiting
            continue
        stack.pop()
        if id(number) not in done:
            done[id(number)] = number
            for argument in number.arguments:
                uses[id(argument)] = uses.get(id(argument), 0) + 1
    return list(done.values()), {id(n): uses.get(id(n), 0) for n in done.values()}
