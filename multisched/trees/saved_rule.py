"""The rule of a saved average: how states and files say it, and by which rule an average that loads them goes on."""

import re
import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from multisched.arrays import namespace_of
from multisched.averages.mean import Mean
from multisched.errors import AverageError, CheckpointMismatch, MultischedError, shown
from multisched.runtime.registry import get_backend
from multisched.schedules.parse import parse
from multisched.trees.options import checked_rule

ResumeRule = Literal["same", "mine", "theirs"]
"""By which rule a state that is loaded goes on: by that of both, of the average, or of the state."""

_LONGEST = 2000
"""Characters of two rules in a message."""
_WAYS = 'Say rule="mine" to go on with the rule of this average, or rule="theirs" to take that of the state.'
_UNIT = 256
_REPLAYED = 1_000_000
"""Updates after which the weight that a rule accumulates no longer depends on those before."""


def rule_text(rule: Mean) -> str:
    """A rule as states and files carry it: its expression, without the addresses of functions in schedules."""
    return _without_addresses(repr(rule))


def _without_addresses(text: str) -> str:
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def checked_resume_rule(given: Any) -> ResumeRule:
    """The argument `rule` of loading, if it is one of the three."""
    if given not in ("same", "mine", "theirs"):
        raise AverageError(f'rule is "same", "mine" or "theirs", got {shown(given)}.')
    return given  # type: ignore[no-any-return]  # `in` does not narrow


def resumed_rule(mine: Mean, given: Any, whose: ResumeRule, where: str) -> Mean:
    """The rule by which an average of the rule `mine` goes on with a state.

    `given` is the entry of the state that says its rule, or None; `whose` is what the user asked for.
    """
    there, here = decoded(given, where), rule_text(mine)
    if whose == "mine":
        return mine
    if there is None:
        if whose == "theirs":
            raise CheckpointMismatch(f'{where}it says no rule. Say rule="mine" to go on with {here}.')
        warnings.warn(
            f"{where}it says no rule, as states of multisched 0.1, and goes on with {here}. If that is its rule, say "
            'rule="mine".',
            UserWarning,
            stacklevel=5,
        )
        return mine
    if there == here:
        return mine
    if whose == "same":
        cut = f"{there[:_LONGEST]}..." if len(there) > _LONGEST else there
        raise CheckpointMismatch(f"{where}its rule is {cut}, and here {here[:_LONGEST]}. {_WAYS}")
    try:
        return checked_rule(parse(there))
    except MultischedError as cause:
        raise CheckpointMismatch(
            f"{where}its rule, {there[:_LONGEST]}, cannot be made from its text. Make the average with that rule, or "
            'say rule="mine".'
        ) from cause


def encoded(rule: Mean) -> np.ndarray:
    """The text of a rule as an array, which any format can hold: its bytes, with zeros up to a multiple of 256.

    Formats that read into arrays of the same shape so take the state of nearly any other rule.
    """
    text = rule_text(rule).encode()
    return np.frombuffer(text.ljust(-(-len(text) // _UNIT) * _UNIT, b"\0"), np.uint8)


def decoded(given: Any, where: str) -> str | None:
    """The text of the rule of a state, which is one, or an array as `encoded` makes it; None if there is none."""
    if given is None or isinstance(given, str):
        return None if given is None else _without_addresses(given)
    try:
        array = given if isinstance(given, np.ndarray) else get_backend(namespace_of(given)).to_numpy(given)
        if array.dtype != np.uint8 or array.ndim != 1:
            raise TypeError
        return _without_addresses(array.tobytes().rstrip(b"\0").decode())
    except (MultischedError, TypeError, ValueError, RuntimeError) as cause:
        raise CheckpointMismatch(
            f"{where}rule is no array with values, of the bytes of a text, got {shown(given)}."
        ) from cause


def resumed(load: Callable[[], None]) -> None:
    """Load the average of a callback, whose argument has another name than that of what loads it."""
    try:
        load()
    except CheckpointMismatch as cause:
        if 'rule="' not in str(cause):
            raise
        raise CheckpointMismatch(f"{cause} Of a callback: AverageCallback(..., resume_rule=...).") from cause


def weight_after(rule: Mean, count: int) -> float:
    """The weight that a rule has accumulated after `count` updates."""
    weight = 0.0
    for n in range(max(0, count - _REPLAYED), count):
        _, weight = rule.share(n, weight)
        if weight == 1.0:
            break
    return float(weight)
