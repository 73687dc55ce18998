"""Post-hoc averages: snapshots of power-function averages combined into one of another width, after the training."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multisched.arrays import averaging_dtype, dtype_name, int_max, is_integer, kind_of, namespace_of, stop_gradient
from multisched.averages.power import PowerEma, power_ema
from multisched.errors import RuleError, TreeMismatch, shown
from multisched.trees.structure import Structure

Floats = NDArray[np.float64]


def posthoc(snapshots: Sequence[Any], sigma_rel: float, count: int | None = None) -> Any:
    """The power-function average of another width, from snapshots of two or more widths at several counts.

        posthoc(snapshots) = sum of weight(i) * snapshot(i).value,  the weights those of `posthoc_weights`

    So you can choose a width after the training. The more snapshots there are, and the closer they are in time, the
    closer the result is to the average that `power_ema(sigma_rel)` would have had at that count.

        narrow, wide = (ms.Average(model, ms.power_ema(sigma_rel)) for sigma_rel in (0.05, 0.1))
        ...                                                # update both, and every 1,000 updates:
        snapshots += [narrow.snapshot(), wide.snapshot()]
        model.load_state_dict(ms.posthoc(snapshots, 0.075))

    Parameters
    ----------
    snapshots:
        Results of `Average.snapshot`, or objects with `value` (a tree of arrays of one backend), `count` (the number of
        updates, at least 1) and `rule` (a `power_ema`).
    sigma_rel:
        The width of the result, as for `power_ema`.
    count:
        The number of updates of the result. Default, and maximum: the largest count of the snapshots.

    Returns
    -------
    A tree like those of the snapshots, of new arrays. Floating and complex leaves are combined in their own dtype, or
    in float32 if that has less precision. Other leaves have their latest values.

    Raises
    ------
    RuleError:
        There are no snapshots, one of them is not a snapshot or not of a `power_ema`, or a count is out of range.
    DecayError:
        `sigma_rel` is out of range.
    TreeMismatch:
        The values are not trees of the same leaves.

    Source: Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models" (EDM2), 2024, section 3.

    >>> import multisched as ms
    >>> from types import SimpleNamespace
    >>> snapshots = []
    >>> for rule in (ms.power_ema(0.05), ms.power_ema(0.2)):
    ...     state = rule.init(np.float64(0))
    ...     for n in range(1, 101):
    ...         state, average = rule.step(state, np.float64(n))
    ...         if n % 10 == 0:
    ...             snapshots.append(SimpleNamespace(value={"w": average}, count=n, rule=rule))
    >>> gamma = ms.power_ema(0.1).gamma
    >>> exact = sum(n * ((n / 100) ** (gamma + 1) - ((n - 1) / 100) ** (gamma + 1)) for n in range(1, 101))
    >>> round(exact, 1), round(float(ms.posthoc(snapshots, 0.1)["w"]), 1)
    (89.3, 89.3)
    """
    rules, counts = _checked(snapshots)
    target, count = power_ema(sigma_rel), _checked_count(count, counts)
    weights = _solved([rule.gamma for rule in rules], counts, target.gamma, count)
    structure = Structure(snapshots[0].value)
    trees = [structure.leaves(snapshot.value) for snapshot in snapshots]
    latest = max(range(len(counts)), key=counts.__getitem__)
    columns = zip(structure.names, zip(*trees, strict=True), strict=True)
    return structure.rebuild([_combined(name, leaves, weights, latest) for name, leaves in columns])


def posthoc_weights(
    sigma_rels: Sequence[float], counts: Sequence[int], sigma_rel: float, count: int | None = None
) -> list[float]:
    """The weights with which snapshots of power-function averages add up to an average of another width.

        minimise the integral of (sum of weight(i) * p(t; gamma(i), count(i)) - p(t; gamma, count)) ** 2 over t,
        where the weights sum to 1
        p(t; gamma, count) = (gamma + 1) / count * (t / count) ** gamma  from 0 to count, and 0 after it

    It is solved in double precision. The inner product of two profiles, of which a ends no later than b, is
    `(gamma_a + 1) * (gamma_b + 1) / (gamma_a + gamma_b + 1) * (count_a / count_b) ** gamma_b / count_b`.

    Parameters
    ----------
    sigma_rels, counts:
        The width of each snapshot, as for `power_ema`, and its number of updates, at least 1.
    sigma_rel, count:
        The same for the result. Default, and maximum, of `count`: the largest count of the snapshots.

    Raises `RuleError`, and `DecayError` if a width is out of range.

    Source: Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models" (EDM2), 2024, appendix C.

    >>> weights = posthoc_weights([0.05, 0.1, 0.05, 0.1], [500, 500, 1000, 1000], 0.07)
    >>> [round(weight, 3) for weight in weights], round(sum(weights), 12)
    ([0.009, -0.022, 0.471, 0.543], 1.0)
    """
    if len(sigma_rels) != len(counts) or not len(counts):
        raise RuleError(f"Each snapshot has one width and one count, got {len(sigma_rels)} and {len(counts)} of them.")
    whole = [_checked_updates(n, f"counts[{i}]") for i, n in enumerate(counts)]
    gammas = [power_ema(width).gamma for width in sigma_rels]
    return _solved(gammas, whole, power_ema(sigma_rel).gamma, _checked_count(count, whole))


# --- the weights -----------------------------------------------------------------------------------------------------
def _solved(gammas: Sequence[float], counts: Sequence[int], gamma: float, count: int) -> list[float]:
    """The weights, from the exponents.

    All is measured from the snapshot that is closest to the result: so the weights of the others are free, and where a
    snapshot is the result, they come out as exactly 1 and 0.
    """
    products = _products(np.array([*gammas, gamma]), np.array([*counts, count]) / max(counts))
    a, b, norm = products[:-1, :-1], products[:-1, -1], products[-1, -1]
    k = int(np.argmin(np.diag(a) - 2 * b + norm))
    others = np.arange(len(gammas)) != k
    matrix = (a - a[:, k : k + 1] - a[k] + a[k, k])[np.ix_(others, others)]
    weights = np.zeros(len(gammas))
    weights[others] = _least_squares(matrix, ((b - a[:, k]) - (b[k] - a[k, k]))[others])
    weights[k] = 1 - math.fsum(weights)
    found: list[float] = weights.tolist()
    return found


def _products(gammas: Floats, ends: Floats) -> Floats:
    """The inner products of all pairs of profiles."""
    first, second = np.meshgrid(np.arange(len(ends)), np.arange(len(ends)), indexing="ij")
    late = np.where(ends[first] < ends[second], second, first)
    shorter = np.minimum(ends[first], ends[second]) / ends[late]
    scale = (gammas[first] + 1) * (gammas[second] + 1) / (gammas[first] + gammas[second] + 1)
    return scale * shorter ** gammas[late] / ends[late]


def _least_squares(matrix: Floats, side: Floats) -> Floats:
    """The solution of the normal equations, without directions of which rounding has left nothing."""
    size = np.sqrt(np.maximum(np.diag(matrix), 0))
    size = np.where(size > 0, size, 1)
    values, vectors = np.linalg.eigh(matrix / np.outer(size, size))
    known = values > _NOISE * max(values.max(initial=0), 0)
    rotated = vectors.T @ (side / size)
    return vectors @ np.where(known, rotated / np.where(known, values, 1), 0) / size


_NOISE = 1e-13


# --- the tree --------------------------------------------------------------------------------------------------------
def _combined(name: str, leaves: Sequence[Any], weights: Sequence[float], latest: int) -> Any:
    """`sum(weight * leaf)`, as what it differs from one of the leaves: equal leaves give that leaf."""
    forms = {_form(leaf) for leaf in leaves}
    if len(forms) > 1:
        raise TreeMismatch(f"The leaf {name!r} is not the same in all snapshots: {' and '.join(sorted(forms))}.")
    if not hasattr(leaves[latest], "dtype"):
        return leaves[latest]
    xp, dtype = namespace_of(*leaves), dtype_name(leaves[latest].dtype)
    if kind_of(dtype) not in ("float", "complex"):
        return xp.astype(leaves[latest], leaves[latest].dtype, copy=True)
    held = getattr(xp, averaging_dtype(dtype))
    parts = [stop_gradient(xp, xp.astype(leaf, held)) for leaf in leaves]
    k = max(range(len(weights)), key=weights.__getitem__)
    moved = xp.zeros_like(parts[k])
    for part, weight in zip(parts, weights, strict=True):
        moved = moved + weight * (part - parts[k])
    return parts[k] + moved


def _form(leaf: Any) -> str:
    return f"{dtype_name(leaf.dtype)} of shape {tuple(leaf.shape)}" if hasattr(leaf, "dtype") else "no array"


# --- arguments -------------------------------------------------------------------------------------------------------
def _checked(snapshots: Sequence[Any]) -> tuple[list[PowerEma], list[int]]:
    if not isinstance(snapshots, list | tuple) or not snapshots:
        raise RuleError(f"snapshots must be a list of at least one, got {shown(snapshots)}.")
    rules, counts = [], []
    for i, snapshot in enumerate(snapshots):
        if missing := [name for name in ("value", "count", "rule") if not hasattr(snapshot, name)]:
            raise RuleError(f"snapshots[{i}] is no snapshot: it has no {missing[0]}: {shown(snapshot)}.")
        if not isinstance(snapshot.rule, PowerEma):
            raise RuleError(
                f"Only averages by power_ema combine, snapshots[{i}] is of the rule {shown(snapshot.rule)}."
            )
        rules.append(snapshot.rule)
        counts.append(_checked_updates(snapshot.count, f"snapshots[{i}].count"))
    return rules, counts


def _checked_updates(count: Any, what: str) -> int:
    if not is_integer(count) or not 1 <= count <= int_max("int32"):
        raise RuleError(f"{what} must be a number of updates, from 1 to 2**31 - 1, got {shown(count)}.")
    return int(count)


def _checked_count(count: int | None, counts: Sequence[int]) -> int:
    last = max(counts)
    if count is None:
        return last
    if _checked_updates(count, "count") > last:
        raise RuleError(f"count must be at most that of the last snapshot, {last}, got {count}.")
    return int(count)
