"""Every exception of the library.

Each derives from `MultischedError`, and from the builtin exception that Python would raise in such a case, so
`except ValueError` keeps working. A message says what was given, what was expected, and where.

Few of them are worth an `except` clause of their own:

| to handle | catch |
| --- | --- |
| an expression or a config that a user typed | `ParseError`, `ConfigError`; `RuleError` for any arguments of a rule |
| a framework that may be absent | `BackendNotInstalled`, `UnknownBackend` |
| arrays from outside, given to a function | `MissingInput`, `ExtraInput`, `InputShapeError`, `InputTypeError` |
| an optimizer that is driven already | `OptimizerError`, whose `driver` is the other driver |
| a checkpoint that is missing, damaged or of another model | `CheckpointError`, or one of the classes below it |
| a model that has changed since its average was made | `TreeMismatch` |
| an update that was interrupted in the middle | `TornError` |

The others report a mistake in the program. All of them, by family:

    MultischedError
        RuleError
            StepKeyError
                StepKeyTypeError
            ScheduleValueError, StepCountError, ScheduleOptionError
            DecayError, WindowError, InitShapeError, ArgumentError
            ConfigError
        ParseError
        NotARule, ScheduleStepError, TimeStepError, MaskError
        UnknownBackend, BackendNotInstalled, BackendMismatch, DTypeError, DeviceError
        SymbolicUseError
            TensorTruthError, TensorConversionError, TensorIterationError
        ShapeError
            InputShapeError, UpdateShapeError
        ConcreteValueError, InvalidName, NotATensor, NotAVariable
        MissingInput, ExtraInput, InputTypeError, TracedInputError
        UpdateTypeError, DuplicatePath, StateError
        OptimizerError
        ReentrantError, TornError
        TreeMismatch, LeafError, SelectError, AverageError, SwapError
        CheckpointError
            CheckpointCorrupt, CheckpointMismatch
            CheckpointFileError
                CheckpointNotFound, CheckpointDenied, CheckpointIsFolder
"""

from argparse import ArgumentTypeError as _ArgumentTypeError
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

_BRACKETS: dict[Any, tuple[str, str]] = {list: ("[", "]"), tuple: ("(", ")"), dict: ("{", "}")}
_LONGEST, _TAIL = 2000, 300  # the most characters of a message, and how many of its end are always kept


def shown(value: object) -> str:
    """A value and its type, shortened for an error message."""
    return f"{brief(value, 200)} of type {type(value).__name__}"


def named(name: object) -> str:
    """A name, shortened for an error message: it may come from an untrusted file."""
    return brief(name, 100)


def brief(value: object, most: int = 100) -> str:
    """The first characters of `repr(value)`.

    Only as much of the value is visited as is shown: an untrusted document may be of any length and depth, contain
    itself, or expand to far more than it occupies.
    """
    text, stack = "", [_pieces(value, most)]
    while stack and len(text) <= most:
        for piece in stack[-1]:
            if isinstance(piece, str):
                text += piece
            else:
                stack.append(piece)
            break
        else:
            stack.pop()
    return text if len(text) <= most else text[:most] + "..."


def _pieces(value: Any, most: int) -> Iterator[Any]:
    """The text of a value in pieces: strings, and iterators over the pieces of the values inside it."""
    if hasattr(type(value), "_pieces"):  # a rule
        yield from value._pieces()
    elif type(value) in (list, tuple, dict):
        opening, closing = _BRACKETS[type(value)]
        yield opening
        for i, item in enumerate(islice(value, most)):
            yield ", " if i else ""
            yield _pieces(item, most)
            if type(value) is dict:
                yield ": "
                yield _pieces(value[item], most)
        yield f",{closing}" if type(value) is tuple and len(value) == 1 else closing
    elif type(value) in (str, bytes):
        yield repr(value if len(value) <= most else value[: most + 1])
    else:
        try:
            yield repr(value)
        except Exception:  # an integer with too many digits for Python, or an object whose `__init__` has not run
            yield f"<a {type(value).__name__} that cannot be printed>"


def cut(message: str) -> str:
    """A message that fits a screen: of a longer one the middle is left out."""
    left_out = len(message) - _LONGEST
    if left_out <= 0:
        return message
    return f"{message[: _LONGEST - _TAIL - 50]} ... ({left_out + 50} characters) ... {message[-_TAIL:]}"


def listed(names: Iterable[object], most: int = 5) -> str:
    """Names for an error message: the first `most` of them, and how many more there are."""
    shown_each = [named(name) for name in names]
    more = f" and {len(shown_each) - most} more" if len(shown_each) > most else ""
    return ", ".join(shown_each[:most]) + more


class MultischedError(Exception):
    """The base class of every error that this library raises on purpose.

    A message fits a screen, however long the values in it are.
    """

    def __init__(self, *args: Any, **named: Any):
        super().__init__(*([cut(args[0])] if len(args) == 1 and isinstance(args[0], str) else args), **named)


# --- rules -----------------------------------------------------------------------------------------------------------
class RuleError(MultischedError, ValueError):
    """The arguments of a constructor do not define a rule."""


class NotARule(MultischedError, TypeError):
    """A rule was expected, but the value is not one, or is a rule of the wrong kind."""


class ArgumentError(RuleError, TypeError):
    """The constructor of a rule was called with a keyword that it does not have, or without one that it needs."""


class StepKeyError(RuleError):
    """A key of `steps_and_values` is not a step: it is negative or not a number."""


class StepKeyTypeError(StepKeyError, TypeError):
    """A key of `steps_and_values` has a type that cannot count steps: a bool, a float or a string."""


class ScheduleValueError(RuleError):
    """The values of a schedule are not real numbers, or are arrays of different shapes."""


class StepCountError(RuleError):
    """A length or a boundary of a schedule is not a number of steps: it is negative, infinite or not a number."""


class ScheduleOptionError(RuleError):
    """An option of a schedule is not one of its possible values."""


class ScheduleStepError(MultischedError, TypeError):
    """A schedule was called with something that is not a step: a bool, a string or a complex array."""


class DecayError(RuleError):
    """`alpha` is outside of [0, 1], or not a number."""


class TimeStepError(MultischedError, ValueError):
    """`dt` is not the time since the previous value: it is negative, NaN, or not a real scalar."""


class WindowError(RuleError):
    """The window of a moving average is not an integer of at least 1."""


class InitShapeError(RuleError):
    """`init` has another shape than the values that are averaged."""


class MaskError(MultischedError, TypeError):
    """`where` is not a boolean scalar, or the state was not made for such a mask."""


class ConfigError(RuleError):
    """A document describes no schedule, or a schedule cannot be written as one. The message opens with the path."""


class ParseError(MultischedError, _ArgumentTypeError, ValueError):
    """A text is not an expression of a rule; `column`, counted from 1, is where it goes wrong."""

    # It is an `argparse.ArgumentTypeError`, because argparse shows the message of no other error of `type=ms.parse`.

    message: str
    """What is wrong, without the place."""
    text: str
    """The whole text."""
    column: int
    """Where it goes wrong, counted from 1."""

    def __init__(self, message: str, text: str, column: int):
        message = cut(message)
        super().__init__(message, text, column)
        self.message, self.text, self.column = message, text, column

    def __str__(self) -> str:
        first = max(0, self.column - 1 - _BEFORE_CARET)
        shown = self.text[first : first + _AROUND_CARET]
        shown = "".join(c if c.isprintable() else " " for c in shown)  # each keeps its column
        return f"{self.message} (column {self.column})\n    {shown}\n    {' ' * (self.column - 1 - first)}^"


_BEFORE_CARET, _AROUND_CARET = 60, 100  # characters of a long text that are shown


# --- backends --------------------------------------------------------------------------------------------------------
class UnknownBackend(MultischedError, ValueError):
    """No adapter and no array API namespace has this name."""


class BackendNotInstalled(MultischedError, ImportError):
    """The adapter is known, but its framework is not installed."""


class BackendMismatch(MultischedError, TypeError):
    """Tensors or arrays of two backends were used in one expression."""


class DTypeError(MultischedError, TypeError):
    """A dtype does not exist, is not supported by the backend, or does not suit the operation."""


class DeviceError(MultischedError, ValueError):
    """The backend has no such device."""


# --- tensors ---------------------------------------------------------------------------------------------------------
class ShapeError(MultischedError, ValueError):
    """Shapes do not fit together."""


class SymbolicUseError(MultischedError, TypeError):
    """A declared tensor was used as if it had a value already."""


class TensorTruthError(SymbolicUseError):
    """A declared tensor was used in `if`, `while`, `and`, `or`, `not` or `in`."""


class TensorConversionError(SymbolicUseError):
    """A declared tensor was given to `float()`, `int()`, `numpy.asarray()` or the like, or was to be pickled."""


class TensorIterationError(SymbolicUseError):
    """A declared tensor was iterated over."""


class ConcreteValueError(MultischedError, TypeError):
    """A declared average was given an array, which never changes, or a variable a first value that is not known."""


class InvalidName(MultischedError, ValueError):
    """A tensor, scope or graph was given a name that paths and globs could not address."""


# --- functions and updates -------------------------------------------------------------------------------------------
class NotATensor(MultischedError, TypeError):
    """A declared tensor was expected."""


class MissingInput(MultischedError, TypeError):
    """A function was called, or built, without a placeholder that its outputs or updates need."""


class ExtraInput(MultischedError, TypeError):
    """A function was given more inputs than it has placeholders, or was built with one placeholder twice."""


class InputShapeError(ShapeError):
    """An input of a function has another shape than its placeholder."""


class InputTypeError(MultischedError, TypeError):
    """An input of a function cannot be cast safely to the dtype of its placeholder."""


class TracedInputError(MultischedError, TypeError):
    """A function that writes variables was called on values that a compiler is tracing."""


class NotAVariable(MultischedError, TypeError):
    """An update was given for something that is not a variable."""


class UpdateShapeError(ShapeError):
    """An update has another shape than its variable."""


class UpdateTypeError(MultischedError, TypeError):
    """An update has another dtype than its variable."""


class DuplicatePath(MultischedError, ValueError):
    """Two variables of one function or file have the same path."""


class StateError(MultischedError, ValueError):
    """The state given to `f.pure` or `f.state` does not belong to this function."""


class OptimizerError(MultischedError, ValueError):
    """An optimizer cannot be driven: it is not an optimizer, lacks the hyperparameter, or is driven already."""

    def __init__(self, message: str, driver: object = None):
        super().__init__(message)
        self.driver = driver
        """The driver that drives the optimizer already; None if that is not what is wrong."""


# --- interrupted -----------------------------------------------------------------------------------------------------
class ReentrantError(MultischedError, RuntimeError):
    """A signal handler or a callback used an object during another call on it, on the same thread."""


class TornError(MultischedError, RuntimeError):
    """An update failed while it was writing, so that only parts are new. Only loading a state repairs this."""


# --- averages of whole models ----------------------------------------------------------------------------------------
class TreeMismatch(MultischedError, ValueError):
    """A tree does not match the average: a leaf is missing, extra, or has another shape, dtype or device."""


class LeafError(MultischedError, ValueError):
    """A leaf cannot be averaged: it is lazy, has no device, or its dtype has no mean. Or the tree has no leaves."""


class SelectError(MultischedError, ValueError):
    """`select` does not say which leaves are averaged, copied or skipped."""


class AverageError(MultischedError, ValueError):
    """An option of an average does not exist, or cannot be combined with the others."""


class SwapError(MultischedError, RuntimeError):
    """Raised while the average is swapped into the model, or if it cannot be written there."""


# --- files -----------------------------------------------------------------------------------------------------------
class CheckpointError(MultischedError, ValueError):
    """A checkpoint could not be loaded or saved; nothing was changed."""


class CheckpointCorrupt(CheckpointError):
    """The file is truncated or damaged, or is not a checkpoint."""


class CheckpointMismatch(CheckpointError):
    """The file is whole, but an entry is missing, unexpected, or has another shape or dtype."""


class CheckpointFileError(CheckpointError, OSError):
    """The system could not read or write a file. Its own error is the `__cause__`; `errno` is copied from that."""

    errno: int | None
    filename: str | None

    def __init__(self, message: str, errno: int | None = None, filename: str | None = None):
        super().__init__(message, errno, filename)
        self.errno, self.filename = errno, filename

    def __str__(self) -> str:
        return str(self.args[0])


class CheckpointNotFound(CheckpointFileError, FileNotFoundError):
    """The file, or the folder for it, does not exist."""


class CheckpointDenied(CheckpointFileError, PermissionError):
    """The user has no permission to read or write the file."""


class CheckpointIsFolder(CheckpointFileError, IsADirectoryError):
    """The path leads to a folder, not to a file."""
