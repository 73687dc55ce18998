"""Post-hoc averages: against the average of the width that was asked for, computed directly."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import make, to_numpy
from helpers_laws import law
from hypothesis import given
from hypothesis import strategies as st

import multisched as ms
from multisched import errors

WIDTHS = (0.05, 0.1)
UPDATES = 1000
widths = st.floats(0.01, 12**-0.5)


def profile(sigma_rel, count, updates=UPDATES):
    """The weights of the values of all updates in the average of one width at one count."""
    edges = np.minimum(np.arange(updates + 1) / count, 1) ** (ms.power_ema(sigma_rel).gamma + 1)
    return np.diff(edges)


def each(times, used=WIDTHS, updates=UPDATES):
    """The widths and counts of snapshots, of all widths at `times` even times."""
    counts = [updates * (i + 1) // times for i in range(times)]
    return [width for _ in counts for width in used], [count for count in counts for _ in used]


def snapshots_of(averages, used, counts):
    return [
        SimpleNamespace(value=averages[width, count], count=count, rule=ms.power_ema(width))
        for width, count in zip(used, counts, strict=True)
    ]


def run(rules, values, at, backend, dtype="float32"):
    """`{(width, count): tree}` of the averages of a stream of trees, by `rule.step` itself."""
    found = {}
    for width in rules:
        rule = ms.power_ema(width)
        states = {name: rule.init(make(value, backend, dtype)) for name, value in values[0].items()}
        for count, tree in enumerate(values, start=1):
            stepped = {name: rule.step(states[name], make(value, backend, dtype)) for name, value in tree.items()}
            states = {name: state for name, (state, _) in stepped.items()}
            if count in at:
                found[width, count] = {"layer": {name: output for name, (_, output) in stepped.items()}}
    return found


# --- the weights -----------------------------------------------------------------------------------------------------
@law
@given(
    snapshots=st.lists(st.tuples(widths, st.integers(1, 10**6)), min_size=1, max_size=20),
    sigma_rel=widths,
    data=st.data(),
)
def test_the_weights_sum_to_1(snapshots, sigma_rel, data):
    """To 1e-12, of any snapshots, alike or far apart: the average of a constant is that constant."""
    used, counts = zip(*snapshots, strict=True)
    count = data.draw(st.integers(1, max(counts)))
    weights = ms.posthoc_weights(used, counts, sigma_rel, count)
    assert all(type(weight) is float and math.isfinite(weight) for weight in weights)
    assert abs(math.fsum(weights) - 1) <= 1e-12


@pytest.mark.parametrize("k", [0, 3, 9])
def test_a_snapshot_that_is_the_result_has_weight_1(k):
    """Asked for what a snapshot is, width and count, the others have no weight at all."""
    used, counts = each(5)
    weights = ms.posthoc_weights(used, counts, used[k], counts[k])
    assert weights == [float(i == k) for i in range(10)]


def test_snapshots_twice_share_their_weight():
    """Equal snapshots have, together, the weight of the one: what is singular is solved all the same."""
    used, counts = each(3)
    once = ms.posthoc_weights(used, counts, 0.07)
    twice = ms.posthoc_weights(used * 2, counts * 2, 0.07)
    np.testing.assert_allclose(np.add(twice[:6], twice[6:]), once, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("sigma_rel", "count"), [(0.07, 1000), (0.15, 1000), (0.07, 900), (0.28, 400)])
def test_they_are_the_least_squares(sigma_rel, count):
    """No weights that sum to 1 come closer: the same problem on 200,000 points, solved by a QR of the profiles."""
    used, counts = each(3)
    points = 200_000
    columns = [profile(width, c * points // UPDATES, points) for width, c in zip(used, counts, strict=True)]
    target = profile(sigma_rel, count * points // UPDATES, points)
    differences = np.stack([column - columns[0] for column in columns[1:]], axis=1)
    free = np.linalg.lstsq(differences, target - columns[0], rcond=None)[0]
    expected = [1 - free.sum(), *free]
    np.testing.assert_allclose(ms.posthoc_weights(used, counts, sigma_rel, count), expected, rtol=0, atol=1e-4)


def test_they_do_not_depend_on_the_unit_of_time():
    """A thousand times as many updates in all counts give the same weights."""
    used, counts = each(8)
    weights = ms.posthoc_weights(used, counts, 0.08)
    long = ms.posthoc_weights(used, [1000 * count for count in counts], 0.08)
    np.testing.assert_allclose(long, weights, rtol=0, atol=1e-9)


def test_the_profiles_come_closer_with_more_snapshots():
    """The combined profile is that asked for to 5, 0.3 and 0.01 % of its norm with 2, 20 and 100 times of snapshots."""
    for times, error in ((2, 0.05), (20, 0.003), (100, 0.0001)):
        used, counts = each(times)
        weights = ms.posthoc_weights(used, counts, 0.075)
        parts = [weight * profile(*of) for weight, of in zip(weights, zip(used, counts, strict=True), strict=True)]
        target = profile(0.075, UPDATES)
        assert np.linalg.norm(np.sum(parts, axis=0) - target) <= error * np.linalg.norm(target)
        assert sum(map(abs, weights)) <= 2  # so that rounding of the snapshots is not blown up


def test_they_are_nearly_those_of_ema_pytorch():
    """`ema_pytorch` solves without the constraint; where snapshots are dense, its weights make the same profile."""
    torch = pytest.importorskip("torch", reason="ema-pytorch needs torch, which is not installed")
    peer = pytest.importorskip("ema_pytorch.post_hoc_ema", reason="ema-pytorch is not installed")
    used, counts = each(20)
    gammas = torch.tensor([peer.sigma_rel_to_gamma(width) for width in used])
    goal = torch.tensor([float(UPDATES)]), torch.tensor([peer.sigma_rel_to_gamma(0.075)])
    theirs = peer.solve_weights(torch.tensor(counts, dtype=torch.float64), gammas, *goal).flatten().tolist()
    ours = ms.posthoc_weights(used, counts, 0.075)
    made = [
        sum(weight * profile(*of) for weight, of in zip(weights, zip(used, counts, strict=True), strict=True))
        for weights in (ours, theirs)
    ]
    assert np.linalg.norm(made[0] - made[1]) <= 2e-3 * np.linalg.norm(profile(0.075, UPDATES))


# --- the trees -------------------------------------------------------------------------------------------------------
def walk(updates, seed=0):
    """Trees that walk at random, and how far that is."""
    rng = np.random.default_rng(seed)
    values = {"w": rng.normal(size=(3, 4)), "b": rng.normal(size=4)}
    found = []
    for _ in range(updates):
        values = {name: value + 0.1 * rng.normal(size=value.shape) for name, value in values.items()}
        found.append(values)
    return found, 0.1 * math.sqrt(updates)


@pytest.mark.parametrize("sigma_rel", [0.06, 0.075, 0.09])
def test_it_is_the_average_of_the_third_width(backend, sigma_rel):
    """Of a random walk, the combination of two widths is the average of a third, and closer the more snapshots it has.

    With snapshots at 2, 8 and 32 times, to 1.5, 0.15 and 0.01 % rms of the movement.
    """
    updates = 256
    values, moved = walk(updates)
    direct = {name: profile(sigma_rel, updates, updates) @ np.stack([v[name].ravel() for v in values]) for name in "wb"}
    dense = run(WIDTHS, values, range(8, updates + 1, 8), backend)
    found = []
    for times in (2, 8, 32):
        tree = ms.posthoc(snapshots_of(dense, *each(times, updates=updates)), sigma_rel)
        assert tree["layer"].keys() == {"w", "b"}
        gaps = [to_numpy(tree["layer"][name], backend).ravel() - direct[name] for name in "wb"]
        found.append(float(np.sqrt(np.mean(np.concatenate(gaps) ** 2))) / moved)
    assert found[0] > found[1] > found[2]
    assert all(error <= bound for error, bound in zip(found, (0.015, 0.0015, 0.0001), strict=True))


def test_of_averages_of_whole_models(backend):
    """Snapshots of two `Average`s combine into what one of the third width holds, to 0.1 % of the movement."""
    values, moved = walk(128)
    trees = [{"layer": {name: make(value, backend) for name, value in tree.items()}} for tree in values]
    snapshots, direct = [], ms.Average(trees[0], ms.power_ema(0.075))
    averages = [ms.Average(trees[0], ms.power_ema(width)) for width in WIDTHS]
    for count, tree in enumerate(trees, start=1):
        for average in (*averages, direct):
            average.update(tree)
        snapshots += [average.snapshot() for average in averages if count % 8 == 0]
    found, expected = ms.posthoc(snapshots, 0.075)["layer"], direct.value["layer"]
    for name in "wb":
        gap = to_numpy(found[name], backend) - to_numpy(expected[name], backend)
        assert np.sqrt(np.mean(gap**2)) <= 0.001 * moved


def test_at_an_earlier_count(backend):
    """`count` asks for the average as it was then: of later snapshots only what helps is used."""
    values, moved = walk(200)
    dense = run(WIDTHS, values, range(10, 201, 10), backend)
    tree = ms.posthoc(snapshots_of(dense, *each(20, updates=200)), 0.075, count=100)
    direct = profile(0.075, 100, 100) @ np.stack([v["b"] for v in values[:100]])
    assert np.max(np.abs(to_numpy(tree["layer"]["b"], backend) - direct)) <= 0.01 * moved


def test_dtypes_and_leaves_that_are_not_averaged(backend):
    """Half precision is combined in float32, double in double; integers, bools and what is no array are the latest."""
    supports = ms.get_backend(backend).supports
    of = {"float32": "float32", "complex64": "complex64"}
    of |= {"bfloat16": "float32"} if supports("bfloat16") else {}
    of |= {"float64": "float64"} if supports("float64") else {}
    rules = [ms.power_ema(width) for width in WIDTHS]
    snapshots = [
        SimpleNamespace(
            value=({d: make([n, 2 * n], backend, d) for d in of}, [make(n, backend, "int32"), f"step {n}"]),
            count=n,
            rule=rule,
        )
        for n in (8, 4)
        for rule in rules
    ]
    averaged, (steps, text) = ms.posthoc(snapshots, 0.07)
    assert {name: to_numpy(leaf, backend).dtype.name for name, leaf in averaged.items()} == of
    assert (int(steps), text) == (8, "step 8")
    weights = ms.posthoc_weights([*WIDTHS, *WIDTHS], [8, 8, 4, 4], 0.07)
    expected = 8 * (weights[0] + weights[1]) + 4 * (weights[2] + weights[3])
    for leaf in averaged.values():
        np.testing.assert_allclose(to_numpy(leaf, backend), [expected, 2 * expected], rtol=1e-6)


def test_equal_snapshots_give_themselves(backend):
    """Of what never moved, the combination is that, to the bit, whatever the weights; and it is another array."""
    value, (used, counts) = np.float32([0.1, 1 / 3, -7.7]), each(6)
    snapshots = snapshots_of({of: [make(value, backend)] for of in zip(used, counts, strict=True)}, used, counts)
    (leaf,) = ms.posthoc(snapshots, 0.2)
    assert to_numpy(leaf, backend).tolist() == value.tolist()
    assert all(leaf is not snapshot.value[0] for snapshot in snapshots)


def test_of_parameters_that_require_gradients(torch):
    """The result is plain tensors, by the names of the module, through which no gradient flows."""
    model = torch.nn.Linear(3, 2)
    snapshots = [
        SimpleNamespace(value=dict(model.named_parameters()), count=n, rule=ms.power_ema(width))
        for n in (5, 10)
        for width in WIDTHS
    ]
    found = ms.posthoc(snapshots, 0.07)
    assert found.keys() == {"weight", "bias"}
    assert not any(leaf.requires_grad for leaf in found.values())
    model.load_state_dict(found)


# --- what is none ----------------------------------------------------------------------------------------------------
def some(**changes):
    snapshot = SimpleNamespace(value={"w": np.zeros(2, np.float32)}, count=10, rule=ms.power_ema(0.1))
    vars(snapshot).update(changes)
    return snapshot


BAD = {
    "no snapshots": (lambda: ms.posthoc([], 0.1), errors.RuleError, r"at least one, got \[\]"),
    "one that is no list": (lambda: ms.posthoc(some(), 0.1), errors.RuleError, "list of at least one, got namespace"),
    "what is no snapshot": (lambda: ms.posthoc([some(), 3], 0.1), errors.RuleError, r"snapshots\[1\].*no value.*3"),
    "another rule": (lambda: ms.posthoc([some(rule=ms.swa())], 0.1), errors.RuleError, r"power_ema.*\[0\].*swa\(\)"),
    "a count of 0": (lambda: ms.posthoc([some(count=0)], 0.1), errors.RuleError, r"snapshots\[0\]\.count.*from 1.*0"),
    "a count of a float": (lambda: ms.posthoc([some(count=1.5)], 0.1), errors.RuleError, r"snapshots\[0\]\.count"),
    "a width that is none": (lambda: ms.posthoc([some()], 0.3), errors.DecayError, "sigma_rel.*0.3"),
    "a width that is a string": (lambda: ms.posthoc([some()], "0.1"), errors.DecayError, "sigma_rel.*'0.1'"),
    "a count after the last": (lambda: ms.posthoc([some()], 0.1, 11), errors.RuleError, "at most.*10, got 11"),
    "a count that is none": (lambda: ms.posthoc([some()], 0.1, -1), errors.RuleError, "count must.*-1"),
    "another tree": (
        lambda: ms.posthoc([some(), some(value={"v": np.zeros(2, np.float32)})], 0.1),
        errors.TreeMismatch,
        "'w'.*'v'",
    ),
    "another shape": (
        lambda: ms.posthoc([some(), some(value={"w": np.zeros(3, np.float32)})], 0.1),
        errors.TreeMismatch,
        r"'w'.*\(2,\).*\(3,\)",
    ),
    "another dtype": (
        lambda: ms.posthoc([some(), some(value={"w": np.zeros(2)})], 0.1),
        errors.TreeMismatch,
        "'w'.*float32.*float64",
    ),
    "a leaf that is no array": (
        lambda: ms.posthoc([some(), some(value={"w": 3})], 0.1),
        errors.TreeMismatch,
        "'w'",
    ),
    "no weights": (lambda: ms.posthoc_weights([], [], 0.1), errors.RuleError, "one width and one count, got 0 and 0"),
    "a width too few": (lambda: ms.posthoc_weights([0.1], [1, 2], 0.1), errors.RuleError, "got 1 and 2"),
    "weights of no width": (lambda: ms.posthoc_weights([2.0], [1], 0.1), errors.DecayError, "sigma_rel.*2.0"),
    "weights of no count": (lambda: ms.posthoc_weights([0.1], [0], 0.1), errors.RuleError, r"counts\[0\].*0"),
}


@pytest.mark.parametrize(("act", "error", "words"), BAD.values(), ids=BAD)
def test_bad_input(act, error, words):
    """Each raises its error, which says what was given, what was expected, and where."""
    with pytest.raises(error, match=words):
        act()
