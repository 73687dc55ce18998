"""Averages of the parameters, kept in the state of an optax optimizer.

The average is one more transformation in the chain, so that it is jitted, donated, sharded, skipped, saved and restored
with the rest of the optimizer's state.
"""

import importlib
from typing import Any, NamedTuple

from multisched.averages import Statistic
from multisched.errors import NotARule, OptimizerError, shown

__all__ = ["as_optax", "average_of"]


class AverageState(NamedTuple):
    """What `as_optax` keeps in the state of an optimizer."""

    states: Any
    """A tree like the parameters: the rule's state for a floating or complex leaf, the latest value for any other."""


def as_optax(rule: Statistic) -> Any:
    """A statistic of the parameters as an `optax.GradientTransformation`, which passes updates through as they are.

        params(k + 1)  = optax.apply_updates(params(k), updates(k))
        average(k + 1) = rule of params(1), params(2), ..., params(k + 1)

    It averages the parameters after the update, so it must come last in a chain, and `update` must be given the
    parameters. Each leaf has a state of its own, in at least float32. Integer and boolean leaves are not averaged, but
    copied.

        optimizer = optax.chain(optax.adamw(1e-3), ms.as_optax(ms.ema(0.999)))
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        average = ms.average_of(ms.ema(0.999), opt_state, params)

    Parameters
    ----------
    rule:
        Any statistic: `ms.ema`, `ms.swa`, `ms.sma`.

    Raises
    ------
    NotARule:
        `rule` is not a statistic.
    OptimizerError:
        By `update`, if it is not given the parameters.

    >>> as_optax(0.999)
    Traceback (most recent call last):
    multisched.errors.NotARule: as_optax takes a statistic, such as ms.ema(0.999), got 0.999 of type float.
    """
    _check("as_optax", rule)
    jax, optax = importlib.import_module("jax"), importlib.import_module("optax")

    def init(params: Any) -> AverageState:
        return AverageState(
            jax.tree.map(lambda leaf: rule.init(leaf) if _averaged(leaf) else _copy(leaf), _own(params))
        )

    def update(updates: Any, state: AverageState, params: Any = None) -> tuple[Any, AverageState]:
        if params is None:
            raise OptimizerError(
                "as_optax averages the parameters, which update was not given:\n"
                "    optimizer.update(grads, opt_state)          # wrong\n"
                "    optimizer.update(grads, opt_state, params)  # right"
            )
        after = optax.apply_updates(params, updates)
        step = lambda leaf, part: rule.step(part, leaf)[0] if _averaged(leaf) else leaf  # noqa: E731
        return updates, AverageState(jax.tree.map(step, after, _own(state.states)))

    return optax.GradientTransformation(init, update)


def average_of(rule: Statistic, opt_state: Any, params: Any) -> Any:
    """The average that `as_optax(rule)` keeps in the state of an optimizer: a tree like `params`, with its dtypes.

        average_of(rule, opt_state, params) = rule.read(state, leaf) for each leaf

    Before the first update it is `params`, or `init` if the rule has one.

    Parameters
    ----------
    rule:
        The rule that was given to `as_optax`.
    opt_state:
        The state of the optimizer, with the average anywhere in it, in a chain or deeper. If it has several averages,
        the part that belongs to one of them, such as `opt_state[1]`.
    params:
        The current parameters.

    Raises
    ------
    NotARule:
        `rule` is not a statistic.
    OptimizerError:
        The state has no average or several, or the average of another rule or of other parameters.
    """
    _check("average_of", rule)
    jax = importlib.import_module("jax")
    parts = jax.tree.leaves(opt_state, is_leaf=lambda part: isinstance(part, AverageState))
    found = [part for part in parts if isinstance(part, AverageState)]
    if len(found) != 1:
        raise OptimizerError(
            f"average_of needs a state with one average of as_optax, got a state with {len(found)} of them"
            + (": give it a part of the state, such as opt_state[1]." if found else ".")
        )
    expected = jax.tree.structure(jax.eval_shape(as_optax(rule).init, params))
    if expected != jax.tree.structure(found[0]):
        raise OptimizerError(
            f"The average in this state is not that of {rule!r} over these parameters. It holds\n"
            f"    {jax.tree.structure(found[0])}\nwhere the rule has\n    {expected}."
        )
    read = lambda leaf, part: rule.read(part, leaf) if _averaged(leaf) else part  # noqa: E731
    return jax.tree.map(read, _own(params), _own(found[0].states))


def _check(what: str, rule: Any) -> None:
    if not isinstance(rule, Statistic):
        raise NotARule(f"{what} takes a statistic, such as ms.ema(0.999), got {shown(rule)}.")


def _own(tree: Any) -> Any:
    """The tree with JAX arrays: what was read from a file may be NumPy arrays."""
    jax = importlib.import_module("jax")
    return jax.tree.map(jax.numpy.asarray, tree)


def _averaged(leaf: Any) -> bool:
    jnp = importlib.import_module("jax.numpy")
    return bool(jnp.issubdtype(leaf.dtype, jnp.inexact))


def _copy(leaf: Any) -> Any:
    """A copy in memory of its own, so that parameters and state can both be donated; its type is not weak."""
    jnp = importlib.import_module("jax.numpy")
    return jnp.array(leaf, dtype=leaf.dtype)
