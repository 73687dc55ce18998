"""The laws of `ms.Average`, over trees of mixed shapes and dtypes."""

import numpy as np
import pytest
from helpers import make, to_numpy
from helpers_average import (
    RULES,
    apart,
    bits,
    bits_of,
    drawn,
    flat,
    hosts,
    is_averaged,
    near,
    nested,
    on_backend,
    on_host,
    tree_of,
    weighted,
)
from helpers_laws import law
from hypothesis import given, settings
from hypothesis import strategies as st

import multisched as ms
from multisched.errors import AverageError, MaskError

EACH_RULE = pytest.mark.parametrize(("rule", "weights"), RULES.values(), ids=RULES)
UPDATES = 6


# --- values ----------------------------------------------------------------------------------------------------------
@EACH_RULE
def test_an_average_is_the_weighted_sum_of_all_values(backend, rule, weights):
    """After each update every floating leaf is the sum of its values so far with the rule's weights, in float64."""
    first, *values = hosts(backend, 1 + UPDATES)
    avg = ms.Average(tree_of(first, backend, label="none", rate=0.5), rule)
    for n, leaves in enumerate(values, 1):
        avg.update(tree_of(leaves, backend, label=f"update {n}", rate=float(n)))
        snapshot = avg.snapshot()
        assert (avg.count, snapshot.count, snapshot.rule) == (n, n, rule)
        found = flat(snapshot.value)
        assert (found.pop("label"), found.pop("rate")) == (f"update {n}", float(n))
        for name, value in on_host(found, backend).items():
            seen = [moment[name] for moment in values[:n]]
            if is_averaged(name):
                assert near(value, weighted(seen, weights(n)), seen, n), name
            else:
                assert bits({name: value}) == bits({name: seen[-1]})


@pytest.mark.parametrize("name", ["ema of a schedule", "swa", "power_ema", "paced ema"])
def test_a_leaf_is_averaged_as_the_rule_averages_it_alone(backend, name):
    """Each leaf of a tree follows `rule.step` on that leaf by itself."""
    rule, _ = RULES[name]
    first, *values = hosts(backend, 4, seed=1)
    avg = ms.Average(tree_of(first, backend), rule)
    names = [name for name in first if is_averaged(name)]
    states = {name: rule.init(make(first[name], backend, first[name].dtype.name)) for name in names}
    for n, leaves in enumerate(values, 1):
        given_leaves = on_backend(leaves, backend)
        avg.update(nested(given_leaves))
        found = flat(avg.snapshot().value)
        for name in names:
            states[name], _ = rule.step(states[name], given_leaves[name])
            alone = to_numpy(states[name].mean, backend)
            seen = [moment[name] for moment in values[:n]]
            wide = alone.astype(np.complex128 if np.iscomplexobj(alone) else np.float64)
            assert near(to_numpy(found[name], backend), wide, seen, 2 * n), name


def test_values_come_in_the_dtypes_of_the_model(backend):
    """`value` is `snapshot().value` rounded to the model's dtypes; half precision is held in float32."""
    first, *values = hosts(backend, 4)
    avg = ms.Average(tree_of(first, backend), ms.ema(0.75))
    for leaves in values:
        avg.update(tree_of(leaves, backend))
    value, snapshot = (on_host(flat(tree), backend) for tree in (avg.value, avg.snapshot().value))
    for name, leaf in first.items():
        assert value[name].dtype == leaf.dtype
        wide = "float32" if leaf.dtype.name in ("float16", "bfloat16") else leaf.dtype.name
        assert snapshot[name].dtype.name == wide
    rounded = {name: array.astype(first[name].dtype) for name, array in snapshot.items()}
    assert bits(value) == bits(rounded)


def test_before_the_first_update_it_is_the_model(backend):
    """An average that was never updated gives back the model, bit by bit, NaN and infinite values too."""
    (leaves,) = hosts(backend, 1)
    leaves["layers.0.0"][0, :2] = np.nan, -np.inf
    leaves["layers.1.bias"][0] = -0.0
    avg = ms.Average(tree_of(leaves, backend), ms.ema(0.9))
    assert avg.count == 0
    assert bits(on_host(flat(avg.value), backend)) == bits(leaves)


# --- masks -----------------------------------------------------------------------------------------------------------
MASKS = {
    "none": lambda yes, backend: None if yes else False,
    "bool": lambda yes, backend: yes,
    "NumPy bool": lambda yes, backend: np.bool_(yes),
    "host": lambda yes, backend: np.array(yes),
    "device": lambda yes, backend: make(yes, backend, "bool"),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("name", ["ema", "ema with debias", "paced ema"])
def test_where_false_nothing_happens(backend, name, mask):
    """Values given where `where` is false, NaN and infinite ones, leave no trace in average, copies and count."""
    rule, weights = RULES[name]
    first, *values = hosts(backend, 7, seed=2)
    avg, counted = ms.Average(tree_of(first, backend), rule), []
    for n, leaves in enumerate(values):
        yes = n not in (0, 3, 4)
        if not yes:
            leaves |= {
                name: np.full_like(leaves[name], [np.nan, np.inf][n % 2]) for name in filter(is_averaged, leaves)
            }
        before = bits_of(avg, backend)
        avg.update(tree_of(leaves, backend), where=mask(yes, backend))
        if yes:
            counted.append(leaves)
        else:
            assert bits_of(avg, backend) == before
    assert avg.count == len(counted)
    for name, value in on_host(flat(avg.snapshot().value), backend).items():
        seen = [moment[name] for moment in counted]
        if is_averaged(name):
            assert near(value, weighted(seen, weights(len(seen))), seen, 2 * len(seen)), name
        else:
            assert bits({name: value}) == bits({name: seen[-1]})


@settings(law, max_examples=10)
@given(
    shapes=st.lists(st.sampled_from([(), (3,), (0, 2), (2, 3)]), min_size=1, max_size=3),
    masks=st.lists(st.tuples(st.sampled_from(sorted(MASKS)), st.booleans()), min_size=1, max_size=8),
    rule=st.sampled_from(sorted(RULES)),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_masks_may_follow_each_other(backend, shapes, masks, rule, seed):
    """Whether each update is known on the host or on the device alone, the average is that of the values that count."""
    rng, (rule, weights) = np.random.default_rng(seed), RULES[rule]
    half = "float16" if ms.get_backend(backend).supports("float16") else "float32"
    dtypes = [("float32", half)[i % 2] for i in range(len(shapes))]
    avg, counted = None, []
    for mask, yes in masks:
        leaves = [drawn(rng, shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
        arrays = [make(leaf, backend, leaf.dtype.name) for leaf in leaves]
        avg = ms.Average(arrays, rule) if avg is None else avg
        avg.update(arrays, where=MASKS[mask](yes, backend))
        counted += [leaves] if yes else []
        assert avg.count == len(counted)
    for i, value in enumerate(avg.snapshot().value if counted else ()):
        seen = [moment[i] for moment in counted]
        expected = weighted(seen, weights(len(seen)))
        assert near(to_numpy(value, backend), expected, seen, 2 * len(seen))


@pytest.mark.parametrize("where", [1, 0.0, "yes", np.array([True]), np.array(1)], ids=repr)
def test_a_mask_is_a_boolean_scalar(backend, where):
    """Anything but a boolean scalar as `where` raises `MaskError`, and nothing is updated."""
    first, leaves = hosts(backend, 2)
    avg = ms.Average(tree_of(first, backend), ms.swa())
    before = bits_of(avg, backend)
    with pytest.raises(MaskError):
        avg.update(tree_of(leaves, backend), where=where)
    assert bits_of(avg, backend) == before


# --- shares of exactly 1 and 0 ---------------------------------------------------------------------------------------
ON_BOTH = pytest.mark.parametrize("on_device", [False, True], ids=["share of the host", "share of the device"])


@ON_BOTH
def test_a_share_of_1_forgets_whatever_was_there(backend, on_device):
    """The first update copies its values, though the model held NaN and infinite ones when the average was made."""
    first, leaves = hosts(backend, 2)
    for name in filter(is_averaged, first):
        first[name] = np.full_like(first[name], np.nan if len(name) % 2 else np.inf)
    avg = ms.Average(tree_of(first, backend), ms.ema(0.9))
    avg.update(tree_of(leaves, backend), where=make(True, backend, "bool") if on_device else None)
    assert bits(on_host(flat(avg.value), backend)) == bits(leaves)


@ON_BOTH
def test_a_share_of_0_leaves_the_average_as_it_is(backend, on_device):
    """An update that the pace skips leaves the average to the bit, though its values are NaN and infinite."""
    first, leaves, other = hosts(backend, 3)
    where = make(True, backend, "bool") if on_device else None
    avg = ms.Average(tree_of(first, backend), ms.paced(ms.ema(0.9), every=2))
    avg.update(tree_of(leaves, backend), where=where)
    for name in filter(is_averaged, other):
        other[name] = np.full_like(other[name], np.nan if len(name) % 2 else np.inf)
    avg.update(tree_of(other, backend), where=where)
    assert avg.count == 2
    expected = {name: (leaves if is_averaged(name) else other)[name] for name in first}
    assert bits(on_host(flat(avg.value), backend)) == bits(expected)


# --- memory ----------------------------------------------------------------------------------------------------------
def test_nothing_shares_memory(backend):
    """What an average gives shares no memory with what it was given, with its state, or with what it gave before."""
    first, second = (on_backend(leaves, backend) for leaves in hosts(backend, 2))
    avg = ms.Average(nested(first), ms.ema(0.5))
    start = flat(avg.value)
    avg.update(nested(second))
    given_arrays = [first, second]
    kinds = {name: array for name, array in first.items() if "bfloat16" not in str(array.dtype)}  # no dlpack for it
    taken = [start, *(flat(tree) for tree in (avg.value, avg.value, avg.snapshot().value))]
    taken += [{k.partition(".")[2]: v for k, v in flat(avg.state_dict()).items() if k not in ("count", "weight")}]
    sets = [{name: group[name] for name in kinds} for group in (*given_arrays, *taken)]
    assert all(apart(a, b) for i, a in enumerate(sets) for b in sets[:i])


def test_values_given_are_never_written_and_values_got_never_change(backend):
    """An update writes nothing but the state: its inputs keep their bits, and so does every value read before."""
    moments = hosts(backend, 4)
    trees = [tree_of(leaves, backend) for leaves in moments]
    avg, read = ms.Average(trees[0], ms.ema(0.5)), []
    for tree in trees[1:]:
        avg.update(tree)
        read.append((avg.value, bits(on_host(flat(avg.value), backend))))
    for tree, leaves in zip(trees, moments, strict=True):
        assert bits(on_host(flat(tree), backend)) == bits(leaves)
    for value, before in read:
        assert bits(on_host(flat(value), backend)) == before


def test_the_average_keeps_nothing_of_a_model_that_changes():
    """Overwriting the arrays after they were given, or the values got, changes nothing in the average."""
    arrays = {"w": np.ones(3, np.float32), "n": np.array([1, 2])}
    avg = ms.Average(arrays, ms.ema(0.5))
    avg.update()
    value = avg.value
    for array in (*arrays.values(), *value.values()):
        array[...] = 77
    assert avg.value["w"].tolist() == [1, 1, 1]
    assert avg.value["n"].tolist() == [1, 2]


def test_a_tree_whose_arrays_change_is_followed_without_being_given(backend):
    """`update()` reads the containers that the average was made of, whose arrays may be exchanged."""
    first, second = hosts(backend, 2)
    tree = tree_of(first, backend)
    avg = ms.Average(tree, ms.ema(0.0))
    tree.update(tree_of(second, backend))
    avg.update()
    assert bits(on_host(flat(avg.value), backend)) == bits(second)


def test_a_functional_model_is_not_kept_alive(backend):
    """Once another tree was given, there is none to fall back to, and asking for it is an error that says so."""
    first, second = (tree_of(leaves, backend) for leaves in hosts(backend, 2))
    avg = ms.Average(first, ms.swa())
    avg.update(second)
    with pytest.raises(AverageError, match="no model to update"):
        avg.update()
    assert avg.count == 1


def test_jax_arrays_of_the_user_stay_usable_and_may_be_donated(jax):
    """No update takes over an array of the user's; one that the user donates afterwards is not the average's either."""
    step = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    numpy = jax.numpy
    tree = {"w": numpy.zeros(3), "big": numpy.zeros(20_000), "n": numpy.arange(3), "flag": numpy.array(0, numpy.int8)}
    avg = ms.Average(tree, ms.swa())
    for n in range(1, 4):
        avg.update(tree)
        value = avg.value
        assert float(tree["w"][0]) == n - 1
        tree = step(tree)  # the arrays that the average was given are gone
        assert value["n"].tolist() == [n - 1, n, n + 1]
        step(value)  # and so is what it gave
    assert avg.value["w"].tolist() == [1, 1, 1]
    assert (avg.value["n"].tolist(), int(avg.value["flag"])) == ([2, 3, 4], 2)
    assert tree["n"].tolist() == [3, 4, 5]


def test_read_only_arrays_are_averaged(backend):
    """An update needs no write access to what it is given."""
    array = np.arange(4, dtype=np.float32)
    array.setflags(write=False)
    avg = ms.Average({"w": array}, ms.ema(0.5), backend=backend)
    avg.update({"w": array})
    assert to_numpy(avg.value["w"], backend).tolist() == [0, 1, 2, 3]


def test_arrays_of_numpy_go_with_those_of_any_backend(backend):
    """NumPy arrays in a tree of another backend are averaged on that backend."""
    tree = {"own": make([0.0, 0.0], backend), "host": np.zeros(2, np.float32)}
    avg = ms.Average(tree, ms.swa())
    avg.update({"own": make([2.0, 4.0], backend), "host": np.array([6, 8], np.float32)})
    assert all(ms.get_backend(backend).owns(leaf) for leaf in avg.value.values())
    assert {name: to_numpy(x, backend).tolist() for name, x in avg.value.items()} == {"own": [2, 4], "host": [6, 8]}
