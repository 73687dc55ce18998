"""Compositions as nodes: whatever is done to all of one is done along a list, and not by recursion.

Python's own stack ends at about a thousand calls, which schedules nested that deep would need for each other; and what
is used twice would be visited twice, what uses that twice four times, and so on.

Of a schedule the functions need no more than its formula, its arguments and its parts: this file lies below the class.
"""

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from typing import Any

from multisched.arrays import Array, Namespace

SHALLOW = 20
"""How deep a composition is evaluated by plain recursion, which compilers that trace Python follow best."""


def walk(rule: Any, parts_of: Callable[[Any], Sequence[Any]]) -> list[Any]:
    """A rule and everything inside of it, each once and after its own parts; the rule itself is the last."""
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
    """What a generator returns; a generator that it yields is run first, and what that returns is sent back."""
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
    """The value of a schedule at `step`, in the namespace.

    A formula with a clock is given the values of the schedules among its arguments, which are evaluated first, each at
    the step that the clock says. Any other formula is given its arguments as they are.
    """
    if rule._clock is None:
        return rule._formula(xp, step, **rule._arguments)
    if rule._depth > SHALLOW:
        return _value_of_deep(rule, xp, step)
    return _applied(rule, xp, step, [value_of(part, xp, at) for part, at in _asked(rule, xp, step)])


def _asked(rule: Any, xp: Namespace, step: Array) -> list[tuple[Any, Array]]:
    """The parts of a schedule, each with the step at which it is asked for its value."""
    if rule._clock is None:
        return []
    return list(zip(rule._parts, rule._clock(xp, step, **rule._arguments), strict=False))


def _applied(rule: Any, xp: Namespace, step: Array, values: list[Array]) -> Array:
    """The formula, with the values of the parts in the place of these."""
    arguments, used = dict(rule._arguments), 0
    for name, many in rule._places if values else ():
        arguments[name] = values[used] if many is None else values[used : used + many]
        used += 1 if many is None else many
    return rule._formula(xp, step, **arguments)


def _value_of_deep(rule: Any, xp: Namespace, step: Array) -> Array:
    """The same, from a stack of what is still to be evaluated."""
    uses = Counter(id(part) for node in walk(rule, lambda node: node._parts) for part in node._parts)
    known: dict[tuple[int, int], tuple[Array, Array]] = {}  # with the step, so that nothing else has its address
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
            if uses[id(part)] == 1:  # nobody else will ask
                del known[id(part), id(when)]
    return known[id(rule), id(step)][0]
