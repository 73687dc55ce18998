"""What the commands that look at schedules share: how a schedule is typed, and for how many steps it is shown."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from multisched.errors import ParseError
from multisched.schedules import Schedule, parse

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType


class Named(NamedTuple):
    """A schedule under the text by which the user typed it."""

    text: str
    rule: Schedule


class Expression(_ParamType):
    """A schedule, typed as `repr` prints it."""

    name = "expression"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Named:
        try:
            found = parse(value)
        except ParseError as error:
            raise click.UsageError(f"This is no schedule:\n{error}", ctx) from error
        if not isinstance(found, Schedule):
            raise click.UsageError(
                f"{value} is a rule of averages, {type(found).__name__}: a function of values, and not of the step, so "
                "that there is nothing to show. A schedule is expected, such as cosine(0.1, 1000).",
                ctx,
            )
        if found.shape != ():
            raise click.UsageError(
                f"{value} is a schedule of arrays of shape {found.shape}. A schedule of numbers is expected, such as "
                "cosine(0.1, 1000).",
                ctx,
            )
        return Named(value, found)


def steps_option(default: int) -> Callable[[Any], Any]:
    return click.option(
        "--steps",
        metavar="N",
        type=click.IntRange(min=1, max=100_000_000),
        default=default,
        show_default=True,
        help="Steps 0 to N - 1.",
    )


expressions_argument = click.argument("expressions", metavar='"EXPR"...', type=Expression(), nargs=-1, required=True)

LANGUAGE = """\
    \b
    An expression is what Python would take after "from multisched import *":
      cosine(0.1, 1000)                              a constructor and its arguments
      0.5 * warmup(cosine(0.1, 1000), 100)           arithmetic and combinators
      piecewise_constant(0.1, {400: 0.05})           dicts, lists, keywords
      torch.OneCycleLR(0.1, 1000)                    another library's schedule by its name there
"""


def described(text: str) -> Callable[[Any], Any]:
    """Give a command its help: `text`, and then what an expression is."""

    def decorate(function: Any) -> Any:
        function.__doc__ = f"{text}\n\n{LANGUAGE}"
        return function

    return decorate
