"""When an average is updated: from some call on, and at each of so many calls."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from multisched.arguments import unchecked
from multisched.arrays import Array, as_real, int_max
from multisched.averages.mean import Mean, Scalar, alike, pick
from multisched.averages.statistic import statistic
from multisched.errors import NotARule, StepCountError, shown


class PacedState(NamedTuple):
    """The state of `paced`."""

    mean: Array
    """The average so far, at least float32; zero before the first call."""
    count: Array
    """Calls so far, int32."""
    weight: Array
    """The weight that the rule inside has accumulated, where it debiases."""


@dataclass(frozen=True, repr=False)
class Paced(Mean):
    """The rule that `paced` builds; see there."""

    rule: Mean
    start: int = 0
    every: int = 1

    title: ClassVar[str] = "PacedAverage"
    labels: ClassVar[dict[str, str]] = {"mean": "average"}
    state: ClassVar[type[Any]] = PacedState

    def _described(self) -> tuple[str, dict[str, Any]]:
        return "paced", {"rule": self.rule, "start": self.start, "every": self.every}

    def share(self, count: Scalar, weight: Scalar) -> tuple[Scalar, Scalar]:
        """As of any `Mean`; the count is that of the calls."""
        late = count - self.start
        waits = late < 0
        late = pick(waits, alike(0, late), late)
        now = late % self.every == 0
        share, heavier = self.rule.share(late // self.every, weight)
        applied = pick(now, share, alike(0.0, weight))
        kept = pick(now, heavier, weight)
        return pick(waits, alike(1.0, weight), applied), pick(waits, weight, kept)


@statistic(
    rule=unchecked("rule"),
    start=unchecked("number"),
    every=unchecked("number"),
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
    if not isinstance(rule, Mean):
        raise NotARule(
            f"Only averages of one share for all elements can be paced, such as ema(0.9), got {shown(rule)}."
        )
    rule.share(0, 0.0)  # raises where it has none
    return Paced(rule, _whole(start, "start", 0), _whole(every, "every", 1))


def _whole(value: Any, what: str, least: int) -> int:
    calls = as_real(value)
    if not isinstance(calls, int) or not least <= calls <= int_max("int32"):
        raise StepCountError(f"{what} must be a whole number of calls, from {least} to 2**31 - 1, got {shown(value)}.")
    return calls
