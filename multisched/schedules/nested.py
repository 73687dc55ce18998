"""Nested schedules without recursion.

Python's stack ends at about a thousand calls, so a schedule nested a thousand deep cannot be evaluated by recursion.
Recursion would also visit a part that is used twice two times, and a part inside of that four times. The functions here
keep a stack of their own, and visit each part once.

They know only the attributes of a schedule, not its class, so that the class can import them.
"""

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from typing import Any

from multisched.arrays import Array, Namespace
from multisched.errors import ScheduleValueError

SHALLOW = 20
"""Up to this depth a composition is evaluated by recursion, because compilers trace plain calls best."""


def walk(rule: Any, parts_of: Callable[[Any], Sequence[Any]]) -> list[Any]:
    """A rule and all rules inside of it, each once, and after its own parts; the rule itself comes last."""
    done: dict[int, Any] = {}
    stack = [rule]
    while stack:
        node = stack[-1]
        waiting = [] if id(node) in done else [part for part in parts_of(node) if id(part) not in done]
        if waiting:
            stack += reversed(waiting)
        else:
            done[id(node)] = node
            stack.pop()
    return list(done.values())


def run(work: Generator[Any, Any, Any]) -> Any:
    """Run a generator and return its result. A generator that it yields is run first, and sent the result of that."""
    stack, result = [work], None
    while stack:
        try:
            needed = stack[-1].send(result)
        except StopIteration as end:
            stack.pop()
            result = end.value
        else:
            stack.append(needed)
            result = None
    return result


def value_of(rule: Any, xp: Namespace, step: Array) -> Array:
    """The value of a schedule at `step`, computed in the namespace `xp`.

    If the schedule has a clock, the clock says at which steps the schedules among its arguments are evaluated, and the
    formula takes their values in their place. Without a clock, the formula takes the arguments as they are.
    """
    if rule._clock is None:
        value = rule._formula(xp, step, **rule._arguments)
        if isinstance(value, type(rule)):
            raise ScheduleValueError(
                f"The formula of {rule.name} gives a schedule instead of a value. Let it call the schedules among its "
                "arguments, schedule(step), or give the decorator clock=, so that the formula takes their values."
            )
        return value
    if rule._depth > SHALLOW:
        return _value_of_deep(rule, xp, step)
    return _applied(rule, xp, step, [value_of(part, xp, at) for part, at in _asked(rule, xp, step)])


def _asked(rule: Any, xp: Namespace, step: Array) -> list[tuple[Any, Array]]:
    """The parts of a schedule, each with the step at which it is evaluated."""
    if rule._clock is None:
        return []
    return list(zip(rule._parts, rule._clock(xp, step, **rule._arguments), strict=False))


def _applied(rule: Any, xp: Namespace, step: Array, values: list[Array]) -> Array:
    """The formula, which takes the values of the parts in their place."""
    arguments, used = dict(rule._arguments), 0
    for name, many in rule._places if values else ():
        arguments[name] = values[used] if many is None else values[used : used + many]
        used += 1 if many is None else many
    return rule._formula(xp, step, **arguments)


def _value_of_deep(rule: Any, xp: Namespace, step: Array) -> Array:
    """The same for a deep composition: a stack holds the schedules that are still to be evaluated."""
    uses = Counter(id(part) for node in walk(rule, lambda node: node._parts) for part in node._parts)
    known: dict[tuple[int, int], tuple[Array, Array]] = {}  # the step is kept, so that its id stays its own
    stack: list[tuple[Any, Array, list[tuple[Any, Array]] | None]] = [(rule, step, None)]
    while stack:
        node, at, asked = stack.pop()
        if (id(node), id(at)) in known:
            continue
        if asked is None:
            asked = _asked(node, xp, at)
            stack.append((node, at, asked))
            stack += [(part, when, None) for part, when in reversed(asked)]
            continue
        values = [known[id(part), id(when)][0] for part, when in asked]
        known[id(node), id(at)] = _applied(node, xp, at, values), at
        for part, when in asked:
            if uses[id(part)] == 1:  # no other schedule needs it
                del known[id(part), id(when)]
    return known[id(rule), id(step)][0]
