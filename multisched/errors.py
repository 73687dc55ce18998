"""Every exception of the library, so that callers can catch one family or one case.

Each class derives from `MultischedError` and from the builtin that Python itself would raise in the like case, so
`except ValueError` keeps working. Messages say what was given, what was expected, and where.
"""

import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

_BRACKETS: dict[Any, tuple[str, str]] = {list: ("[", "]"), tuple: ("(", ")"), dict: ("{", "}")}
_LONGEST, _TAIL = 2000, 300  # characters of a message, and those at its end that are kept


def shown(value: object) -> str:
    """A value as error messages show it, cut short, with its type."""
    return f"{brief(value, 200)} of type {type(value).__name__}"


def named(name: object) -> str:
    """A name as error messages show it, cut short: it may come from a file of a stranger."""
    return brief(name, 100)


def brief(value: object, most: int = 100) -> str:
    """The first characters of what `repr` prints.

    No more of the value is looked at than is shown: documents of strangers can be of any length and depth, endless too,
    or stand for far more than they hold.
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
    """The text of a value in pieces: strings, and the pieces of what is inside."""
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
        except Exception:  # an integer of more digits than Python writes, an object of a user that is not made yet
            yield f"<a {type(value).__name__} that cannot be printed>"


def cut(message: str) -> str:
    """A message of at most a screen, without its middle where it was longer."""
    left_out = len(message) - _LONGEST
    if left_out <= 0:
        return message
    return f"{message[: _LONGEST - _TAIL - 50]} ... ({left_out + 50} characters) ... {message[-_TAIL:]}"


def listed(names: Iterable[object], most: int = 5) -> str:
    """Names as error messages show them: the first ones of many, and how many more there are."""
    shown_each = [named(name) for name in names]
    more = f" and {len(shown_each) - most} more" if len(shown_each) > most else ""
    return ", ".join(shown_each[:most]) + more


class MultischedError(Exception):
    """The root: anything that this library raises on purpose.

    A message is never longer than a screen, whatever it was made of.
    """

    def __init__(self, *args: Any, **named: Any):
        super().__init__(*([cut(args[0])] if len(args) == 1 and isinstance(args[0], str) else args), **named)


# --- rules -----------------------------------------------------------------------------------------------------------
class RuleError(MultischedError, ValueError):
    """A rule was built from arguments that define no rule."""


class NotARule(MultischedError, TypeError):
    """Something that is no rule, or a rule of the wrong kind, was to be declared."""


class ArgumentError(RuleError, TypeError):
    """The constructor of a rule was called with a keyword that it does not have, or without one that it needs."""


class StepKeyError(RuleError):
    """A key of `steps_and_values` is no step: it is negative or not a number."""


class StepKeyTypeError(StepKeyError, TypeError):
    """A key of `steps_and_values` is of a type that cannot count steps: a bool, a float, a string."""


class ScheduleValueError(RuleError):
    """The values of a schedule are not real numbers or arrays of one shape."""


class StepCountError(RuleError):
    """A length or a boundary of a schedule is no number of steps: negative, infinite, or not a number."""


class ScheduleOptionError(RuleError):
    """An option of a schedule is none of those there are."""


class ScheduleStepError(MultischedError, TypeError):
    """A schedule was asked for its value at something that is no step: a bool, a string, a complex array."""


class DecayError(RuleError):
    """`alpha` is outside [0, 1], or not a number."""


class TimeStepError(MultischedError, ValueError):
    """`dt` is no time since the value before: it is negative, NaN, or no real scalar."""


class WindowError(RuleError):
    """The window of a moving average is not an integer of at least 1."""


class InitShapeError(RuleError):
    """`init` cannot start the average: its shape is not that of the value."""


class MaskError(MultischedError, TypeError):
    """`where` is no boolean scalar, or the state is not made for such a mask."""


class ConfigError(RuleError):
    """A document describes no schedule, or a schedule cannot be written as one; the message opens with the path."""


class ParseError(MultischedError, ValueError):
    """A text is no expression of a rule; `column`, counted from 1, is where it goes wrong."""

    def __init__(self, message: str, text: str, column: int):
        if "argparse" in sys.modules:
            _derive_from_argparse()
        message = cut(message)
        super().__init__(message, text, column)
        self.message, self.text, self.column = message, text, column

    def __str__(self) -> str:
        first = max(0, self.column - 1 - _BEFORE_CARET)
        shown = self.text[first : first + _AROUND_CARET]
        shown = "".join(c if c.isprintable() else " " for c in shown)  # each keeps its column
        return f"{self.message} (column {self.column})\n    {shown}\n    {' ' * (self.column - 1 - first)}^"


_BEFORE_CARET, _AROUND_CARET = 60, 100  # characters of a long text that are shown


def _derive_from_argparse() -> None:
    """Let `ParseError` be an `argparse.ArgumentTypeError`, too, where argparse has been imported.

    Of `add_argument("--lr", type=ms.parse)` argparse shows the message of such an error, and none of any other. It is
    not imported for this: that takes longer than to import all errors.
    """
    kind = sys.modules["argparse"].ArgumentTypeError
    if kind not in ParseError.__bases__:
        ParseError.__bases__ = (MultischedError, kind, ValueError)


# --- backends --------------------------------------------------------------------------------------------------------
class UnknownBackend(MultischedError, ValueError):
    """No adapter and no array API namespace goes by that name."""


class BackendNotInstalled(MultischedError, ImportError):
    """The adapter is known, but the framework that it adapts is not installed."""


class BackendMismatch(MultischedError, TypeError):
    """Tensors or arrays of two backends met in one expression."""


class DTypeError(MultischedError, TypeError):
    """A dtype that does not exist, that this backend lacks, or that does not suit the operation."""


class DeviceError(MultischedError, ValueError):
    """A device that this backend does not have."""


# --- tensors ---------------------------------------------------------------------------------------------------------
class ShapeError(MultischedError, ValueError):
    """Shapes that do not fit together, found while an expression was declared."""


class SymbolicUseError(MultischedError, TypeError):
    """A declared tensor was used as if it had a value now."""


class TensorTruthError(SymbolicUseError):
    """A declared tensor was used in `if`, `while`, `and`, `or`, `not` or `in`."""


class TensorConversionError(SymbolicUseError):
    """A declared tensor was given to `float()`, `int()`, `numpy.asarray()` or the like."""


class TensorIterationError(SymbolicUseError):
    """A declared tensor was iterated over."""


class ConcreteValueError(MultischedError, TypeError):
    """An average was declared of an array that can never change."""


class InvalidName(MultischedError, ValueError):
    """A name of a tensor, scope or graph that paths and globs could not address."""


# --- functions and updates -------------------------------------------------------------------------------------------
class NotATensor(MultischedError, TypeError):
    """Something that is no declared tensor stands where one is needed."""


class MissingInput(MultischedError, TypeError):
    """A placeholder that the outputs or updates need was not given."""


class ExtraInput(MultischedError, TypeError):
    """More inputs were given than the function has, or one of them twice."""


class InputShapeError(ShapeError):
    """An input of a function has another shape than its placeholder."""


class InputTypeError(MultischedError, TypeError):
    """An input of a function cannot be cast safely to the dtype of its placeholder."""


class TracedInputError(MultischedError, TypeError):
    """A stateful function was called on values that a compiler is tracing."""


class NotAVariable(MultischedError, TypeError):
    """An update was given for something that is no variable."""


class UpdateShapeError(ShapeError):
    """An update has another shape than its variable."""


class UpdateTypeError(MultischedError, TypeError):
    """An update has another dtype than its variable."""


class DuplicatePath(MultischedError, ValueError):
    """Two variables of one function or file have the same path."""


class StateError(MultischedError, ValueError):
    """A state given to `f.pure` or `f.state` is not that of this function."""


class OptimizerError(MultischedError, ValueError):
    """An optimizer cannot be driven: it is none, has no such hyperparameter, group or state, or is driven already."""

    def __init__(self, message: str, driver: object = None):
        super().__init__(message)
        self.driver = driver
        """The driver that drives it already; None where the error is another."""


# --- interrupted -----------------------------------------------------------------------------------------------------
class ReentrantError(MultischedError, RuntimeError):
    """A signal handler or a callback used an object in the middle of another call on it, on the same thread."""


class TornError(MultischedError, RuntimeError):
    """An update failed while it wrote, so that a part is new and a part old; only loading a state mends that."""


# --- averages of whole models ----------------------------------------------------------------------------------------
class TreeMismatch(MultischedError, ValueError):
    """A tree is not that of the average: a leaf is missing, extra, or of another shape, dtype or device."""


class LeafError(MultischedError, ValueError):
    """A leaf cannot be averaged, as it is lazy, on no device, or of no dtype that has a mean; or there is none."""


class SelectError(MultischedError, ValueError):
    """`select` does not say which leaves are averaged, copied or skipped."""


class AverageError(MultischedError, ValueError):
    """An option of an average that does not exist, or does not go with the others."""


class SwapError(MultischedError, RuntimeError):
    """Raised while the average is swapped into the model, or if it cannot be written there."""


# --- files -----------------------------------------------------------------------------------------------------------
class CheckpointError(MultischedError, ValueError):
    """A checkpoint could not be loaded or saved; nothing was changed."""


class CheckpointCorrupt(CheckpointError):
    """The file is truncated, damaged, or no checkpoint at all."""


class CheckpointMismatch(CheckpointError):
    """The file is whole, but an entry is missing, unexpected, or of another shape or dtype."""


class CheckpointFileError(CheckpointError, OSError):
    """The system could not read or write a file; its own error is the `__cause__`, and `errno` is that of it."""

    def __init__(self, message: str, errno: int | None = None, filename: str | None = None):
        super().__init__(message, errno, filename)
        self.errno, self.filename = errno, filename

    def __str__(self) -> str:
        return str(self.args[0])


class CheckpointNotFound(CheckpointFileError, FileNotFoundError):
    """There is no such file, or no folder for it."""


class CheckpointDenied(CheckpointFileError, PermissionError):
    """The user may not read or write the file."""


class CheckpointIsFolder(CheckpointFileError, IsADirectoryError):
    """The path of a file leads to a folder."""
