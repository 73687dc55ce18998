"""Averages that are not updated at every call: only from some call on, or only at every n-th call."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from multisched.arguments import Reader, number, reader
from multisched.arrays import Array, int_max
from multisched.averages.mean import Mean
from multisched.averages.scalars import Scalar, matching, pick
from multisched.averages.statistic import statistic
from multisched.errors import NotARule, StepCountError, shown


class PacedState(NamedTuple):
    """The state of `paced`."""

    mean: Array
    """The average so far, at least float32; zero before the first call."""
    count: Array
    """Calls so far, int32."""
    weight: Array
    """The weight that the inner rule has accumulated, if it debiases."""


@dataclass(frozen=True, repr=False)
class Paced(Mean):
    """The rule that `paced` builds; see there."""

    rule: Mean
    """The inner rule, which averages."""
    start: int = 0
    every: int = 1

    name: ClassVar[str] = "paced"
    title: ClassVar[str] = "PacedAverage"
    labels: ClassVar[dict[str, str]] = {"mean": "average"}
    state: ClassVar[type[Any]] = PacedState

    def share(self, count: Scalar, weight: Scalar) -> tuple[Scalar, Scalar]:
        """See `Mean`; `count` is the number of calls."""
        since = count - self.start
        waits = since < 0
        since = pick(waits, matching(0, since), since)
        due = since % self.every == 0
        share, heavier = self.rule.share(since // self.every, weight)
        share, heavier = pick(due, share, matching(0.0, weight)), pick(due, heavier, weight)
        return pick(waits, matching(1.0, weight), share), pick(waits, weight, heavier)


@reader("rule")
def _a_mean(value: Any, name: str) -> Mean:
    """A rule that has one share for all elements."""
    if not isinstance(value, Mean):
        raise NotARule(
            f"Only averages of one share for all elements can be paced, such as ema(0.9), got {shown(value)}."
        )
    value.share(0, 0.0)  # raises RuleError if the rule has none
    return value


def _calls(least: int) -> Reader:
    """A number of calls, of at least `least`."""
    most = int_max("int32")
    expected = f"a whole number of calls, from {least} to 2**31 - 1"
    return Reader(
        "number",
        lambda value, name: number(value, name, StepCountError, least=least, most=most, whole=True, expected=expected),
    )


@statistic(
    rule=_a_mean,
    start=_calls(0),
    every=_calls(1),
    examples=["paced(ema(0.9), every=3)", "paced(swa(), start=2, every=2)"],
)
def paced(rule: Mean, start: int = 0, every: int = 1) -> Paced:
    """A rule that applies another rule only from some call on, and only at every so many calls.

        before call `start`, counted from 0    the average is a copy of the latest value
        at calls start, start + every, ...     updates 0, 1, ... of the rule
        at other calls                         the average stays as it is

    Parameters
    ----------
    rule:
        The rule to apply: `swa`, `power_ema`, `paced`, or `ema` with one number or schedule as alpha and without
        `init`. Its decay and its schedules count the updates that are applied, not the calls.
    start:
        The first call at which the rule is applied; at least 0.
    every:
        The number of calls from one update of the rule to the next; at least 1.

    Raises
    ------
    NotARule:
        `rule` does not have one share for all elements, such as `sma`, or is not a rule.
    RuleError:
        `rule` is an `ema` with `init`, or with an array or a declared tensor as alpha.
    StepCountError:
        `start` or `every` is not an integer, or is out of range.

    Source: `update_after_step` and `update_every` of `ema_pytorch.EMA`.

    >>> import numpy as np
    >>> from multisched import swa
    >>> rule = paced(swa(), start=1, every=2)
    >>> state = rule.init(np.float32(0))
    >>> for value in (1.0, 2.0, 3.0, 4.0, 5.0):
    ...     state, average = rule.step(state, np.float32(value))
    ...     print(average)
    1.0
    2.0
    2.0
    3.0
    3.0
    """
    return Paced(rule, start, every)
