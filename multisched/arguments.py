"""Arguments of rules: what a parameter takes, said once, for calls from Python and for data alike.

A `Reader` belongs to a parameter. It checks what a call gives and returns plain data, and its form tells `from_config`
which JSON values may stand for it. Every number in the library is checked by `number`, so that a wrong one is refused
with the same words everywhere.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import wraps
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, ParamSpec, TypeVar

import numpy as np

from multisched.arrays import as_real, is_finite
from multisched.errors import ArgumentError, MultischedError, RuleError, brief, listed, named, shown

P = ParamSpec("P")
R = TypeVar("R")

Form = Literal[
    "number", "integer", "flag", "text", "array", "operand", "steps", "integers", "schedule", "schedules", "rule", "any"
]
"""How data writes an argument: JSON's number, true or false, string, nested lists, a rule or nested lists, pairs of a
step and a value, a list of integers, and objects that describe a schedule, a list of schedules, or any rule."""


class Reader(NamedTuple):
    """What a parameter takes: `reader(value, name)` returns plain data, or raises an error that gives the name."""

    form: Form
    check: Callable[[Any, str], Any]
    optional: bool = False
    """Whether None is allowed, and stays None."""

    def __call__(self, value: Any, name: str) -> Any:
        """`value` as plain data; `name` stands in the error message."""
        return None if self.optional and value is None else self.check(value, name)


def reader(form: Form) -> Callable[[Callable[[Any, str], Any]], Reader]:
    """Make a reader of a function `check(value, name)`.

    >>> @reader("number")
    ... def even(value, name):
    ...     return 2 * round(value / 2)
    >>> even(3.9, "steps"), even.form
    (4, 'number')
    """
    return lambda check: Reader(form, check)


def optional(read: Reader) -> Reader:
    """The same reader, which also takes None.

    >>> optional(flag)(None, "staircase") is None
    True
    """
    return read._replace(optional=True)


# --- numbers ---------------------------------------------------------------------------------------------------------
def number(
    value: Any,
    name: str,
    error: type[MultischedError],
    *,
    least: float = -math.inf,
    most: float = math.inf,
    above: float | None = None,
    whole: bool = False,
    infinite: bool = False,
    expected: str | None = None,
) -> int | float:
    """`value` as a Python `int` or `float`, if it is a real number in the range; else raise `error`.

    Parameters
    ----------
    value:
        A number of Python or NumPy, a fraction, a decimal, an array without axes; never a bool.
    least, most, above:
        The bounds: `least <= value <= most`, and `value > above`.
    whole:
        Whether it must be an integer. A float is not one, whatever its value.
    infinite:
        Whether infinities are allowed; NaN never is.
    expected:
        What the message says after "must be"; derived from the bounds by default.

    >>> from multisched.errors import StepCountError
    >>> number(np.float32(0.5), "share", StepCountError, least=0, most=1)
    0.5
    >>> number(-1, "every", StepCountError, least=1, whole=True)
    Traceback (most recent call last):
    multisched.errors.StepCountError: every must be an integer of at least 1, got -1 of type int.
    """
    found = as_real(value)
    fits = (
        found is not None
        and (type(found) is int or not whole)
        and (is_finite(found) or (infinite and found == found))
        and least <= found <= most
        and (above is None or found > above)
    )
    if found is None or not fits:
        if expected is None:
            expected = _expected(least, most, above, whole)
            if found is not None and not is_finite(found) and not infinite:
                expected = f"finite in double precision, and {expected}"
        raise error(f"{name} must be {expected}, got {shown(value)}.")
    return found


def _expected(least: float, most: float, above: float | None, whole: bool) -> str:
    noun = "an integer" if whole else "a real number"
    if above is not None:
        return f"{noun} above {above:g}" + (f", and at most {most:g}" if most < math.inf else "")
    if most < math.inf:
        return f"{noun} from {least:g} to {most:g}" if least > -math.inf else f"{noun} of at most {most:g}"
    return f"{noun} of at least {least:g}" if least > -math.inf else noun


# --- options ---------------------------------------------------------------------------------------------------------
def option(value: Any, name: str, options: Iterable[str], error: type[MultischedError]) -> str:
    """`value`, if it is one of the options, which are strings; else raise `error`."""
    if not isinstance(value, str) or value not in options:
        raise error(f"{name} must be one of {', '.join(map(repr, options))}, got {brief(value)}.")
    return str(value)


def boolean(value: Any, name: str, error: type[MultischedError]) -> bool:
    """`value`, if it is a bool of Python or NumPy; else raise `error`."""
    if not isinstance(value, bool | np.bool_):
        raise error(f"{name} must be True or False, got {shown(value)}.")
    return bool(value)


@reader("flag")
def flag(value: Any, name: str) -> bool:
    """True or False."""
    return boolean(value, name, RuleError)


def unchecked(form: Form) -> Reader:
    """Whatever is given, which the constructor itself checks; data writes it in this form."""
    return Reader(form, lambda value, name: value)


# --- calls -----------------------------------------------------------------------------------------------------------
def bound(name: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by parameter, with the defaults filled in.

    Raises `ArgumentError`, which names the function, and for an unknown keyword the parameter most like it.

    >>> bound("halve", inspect.signature(lambda init, steps: None), (1,), {"step": 4})
    Traceback (most recent call last):
    multisched.errors.ArgumentError: halve() has no argument 'step'; did you mean 'steps'?
    """
    parameters = signature.parameters
    if len(args) <= len(parameters) and kwargs.keys() <= parameters.keys():  # `Signature.bind` takes ten times as long
        taken = _taken(parameters, args, kwargs)
        if taken is not None:
            return taken
    try:
        call = signature.bind(*args, **kwargs)
    except TypeError as cause:
        raise ArgumentError(_misfit(name, signature, args, kwargs) or f"{name}(): {cause}.") from None
    call.apply_defaults()
    return call.arguments


def _taken(
    parameters: Mapping[str, inspect.Parameter], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any] | None:
    """The arguments in the order of the parameters, if all is plain; None where `Signature.bind` has to look."""
    taken: dict[str, Any] = {}
    for number, (name, parameter) in enumerate(parameters.items()):
        if parameter.kind not in _PLAIN:
            return None
        by_position = number < len(args)
        if by_position and (parameter.kind is _KEYWORD or name in kwargs):
            return None
        value = args[number] if by_position else kwargs.get(name, parameter.default)
        if value is inspect.Parameter.empty:
            return None
        taken[name] = value
    return taken


_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_PLAIN = (inspect.Parameter.POSITIONAL_OR_KEYWORD, _KEYWORD)


def _misfit(name: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Why the arguments do not fit the signature."""
    parameters = signature.parameters
    for given in kwargs:
        if given not in parameters:
            near = _nearest(given, [p for p in parameters if p not in kwargs] or parameters)
            meant = f"did you mean {near!r}?" if near else f"it takes {listed(parameters, 12)}."
            return f"{name}() has no argument {named(given)}; {meant}"
    how = signature_text(name, signature)
    if len(args) > len(parameters):
        return (
            f"{name}() takes at most {len(parameters)} argument{'s'[: len(parameters) != 1]}, got {len(args)}: {how}."
        )
    positional = list(parameters)[: len(args)]
    if twice := [given for given in positional if given in kwargs]:
        return f"{name}() was given {twice[0]!r} twice, by position and by name: {how}."
    missing = [
        p.name
        for p in parameters.values()
        if p.default is p.empty and p.name not in kwargs and p.name not in positional
    ]
    if missing:
        return f"{name}() needs {' and '.join(map(repr, missing))}: {how}."
    return None


def signature_text(name: str, signature: inspect.Signature) -> str:
    """How the function is called, without annotations: `cosine(init, steps, end=0)`."""
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    return f"{name}{inspect.Signature(bare)}"


def _nearest(name: str, names: Iterable[str]) -> str | None:
    """The name most like this one: by its letters, or one that is a part of the other."""
    if len(name) > 100:
        return None
    names = list(names)
    inside = [n for n in names if n in name.split("_") or name in n.split("_")]
    return next(iter([*get_close_matches(name, names, n=1, cutoff=0.75), *inside]), None)


def checked(examples: Iterable[str], readers: Mapping[str, Reader]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator for a function that builds a rule: it is called with what the readers make of the arguments.

    Without readers the arguments go through as they are, and data cannot name the function.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        others = [p.name for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD]

        @wraps(function)
        def build(*args: P.args, **kwargs: P.kwargs) -> R:
            given: dict[str, Any] = read_all(readers, bound(function.__name__, signature, args, kwargs))
            more = {keyword: value for name in others for keyword, value in given.pop(name, {}).items()}
            return function(**given, **more)  # type: ignore[call-arg]  # they are bound

        if readers or not signature.parameters:
            return constructor_of(build, signature, readers, examples)
        build.examples = tuple(examples)  # type: ignore[attr-defined]  # as constructor_of sets it
        return build

    return decorate


def constructor_of(
    build: Callable[P, R], signature: inspect.Signature, readers: Mapping[str, Reader], examples: Iterable[str]
) -> Callable[P, R]:
    """Let `build` carry what config, help, completion and the laws ask for: signature, annotations, readers, examples.

    Raises `ArgumentError` if the decorator has a reader for a parameter that does not exist, something that is not a
    reader, or examples that are not a list of texts.
    """
    parameters = signature.parameters
    for name, read in readers.items():
        if name not in parameters:
            raise ArgumentError(
                f"{build.__name__} has no parameter {name!r}, for which the decorator has a reader: it takes "
                f"{listed(parameters, 12)}. (The first two parameters of a schedule's formula are xp and step.)"
            )
        if not isinstance(read, Reader):
            raise ArgumentError(
                f"{name}={brief(read)} of {build.__name__} must be a reader of multisched.schedules.readers; "
                "multisched.arguments.reader makes one of a function check(value, name)."
            )
    if isinstance(examples, str) or not all(isinstance(example, str) for example in examples):
        raise ArgumentError(f"The examples of {build.__name__} must be a list of expressions, got {shown(examples)}.")
    annotations = {name: p.annotation for name, p in parameters.items() if p.annotation is not p.empty}
    constructor: Any = build
    constructor.__signature__ = signature
    constructor.__annotations__ = {**annotations, "return": signature.return_annotation}
    constructor.readers, constructor.examples = MappingProxyType(dict(readers)), tuple(examples)
    return build


def read_all(readers: Mapping[str, Reader], given: dict[str, Any]) -> dict[str, Any]:
    """Every argument as plain data; one that has no reader stays as it is."""
    return {name: readers[name](value, name) if name in readers else value for name, value in given.items()}
