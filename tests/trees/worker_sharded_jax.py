"""A process with 8 devices, started by test_sharded_jax.py: each `check_` is a claim about averages of sharded arrays.

What is compiled is read from the files that XLA writes, whoever had it compiled. What each claim came to is written to
the folder given: nothing, or how it failed.
"""

import json
import os
import re
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(sys.argv[1])
DUMP = FOLDER / "xla"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    f"--xla_force_host_platform_device_count=8 --xla_dump_to={DUMP} --xla_dump_hlo_as_text --xla_dump_hlo_module_re=.*"
)

import jax  # noqa: E402  after its settings
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding  # noqa: E402

import multisched as ms  # noqa: E402
from multisched.errors import TreeMismatch  # noqa: E402

DECAY, RULE = 0.75, ms.ema(0.75)
COLLECTIVES = r"\b(all-reduce|all-gather|all-to-all|collective-permute|collective-broadcast|reduce-scatter)(-start)?\("
MESHES = {
    kind.name: jax.make_mesh((4, 2), ("x", "y"), axis_types=(kind, kind)) for kind in (AxisType.Auto, AxisType.Explicit)
}
LAYOUTS = {
    "rows": ((8, 4), ("x",)),
    "columns": ((3, 4), (None, "y")),
    "blocks": ((8, 6, 5), ("x", "y")),
    "all devices": ((16,), (("x", "y"),)),
    "turned": ((6, 8), ("y", "x")),
    "everywhere": ((5, 3), ()),
    "scalar": ((), ()),
    "large": ((256, 512), ("y", "x")),
}
ALONE = {"default": None, "first": 0, "fourth": 3}
COMPENSATED = {"dtype": "bfloat16", "rounding": "compensated"}
SHAPES = {name: shape for name, (shape, _) in LAYOUTS.items()} | dict.fromkeys(ALONE, (7,))


# --- trees -----------------------------------------------------------------------------------------------------------
def values(step, dtype="float32"):
    """Arrays of NumPy, others for each step."""
    rng = np.random.default_rng(step)
    tree = {name: rng.normal(size=shape).astype(dtype) for name, shape in SHAPES.items()}
    return {**tree, "counter": np.array([step] * 8, np.int32)}


def shardings(mesh):
    found = {name: NamedSharding(mesh, PartitionSpec(*spec)) for name, (_, spec) in LAYOUTS.items()}
    found |= {name: None if i is None else SingleDeviceSharding(jax.devices()[i]) for name, i in ALONE.items()}
    return {**found, "counter": NamedSharding(mesh, PartitionSpec("x"))}


def few(tree):
    """Those leaves for which rounding, which takes long to compile, is tested."""
    return {name: tree[name] for name in ("columns", "blocks", "everywhere", "fourth", "counter")}


def on_devices(tree, mesh, dtype=None):
    return {
        name: jnp.asarray(array) if sharding is None else jax.device_put(array, sharding)
        for name, sharding in shardings(mesh).items()
        if name in tree
        for array in [tree[name] if dtype is None or name == "counter" else tree[name].astype(dtype)]
    }


def averaged(count, decay=DECAY):
    """The average in float64, in plain NumPy."""
    mean = None
    for step in range(count):
        new = {name: array.astype(np.float64) for name, array in values(step).items()}
        mean = new if mean is None else {n: decay * mean[n] + (1 - decay) * v for n, v in new.items()}
    return {**mean, "counter": values(count - 1)["counter"]}


def assert_close(tree, expected, rtol=1e-6, atol=1e-6):
    assert set(tree) == set(expected)
    for name, array in tree.items():
        np.testing.assert_allclose(np.asarray(array, np.float64), expected[name], rtol=rtol, atol=atol, err_msg=name)


def assert_same_bits(tree, other):
    assert set(tree) == set(other)
    for name, array in tree.items():
        np.testing.assert_array_equal(np.asarray(array), np.asarray(other[name]), err_msg=name, strict=True)


def assert_laid_out(tree, like):
    for name, array in tree.items():
        assert array.sharding.is_equivalent_to(like[name].sharding, array.ndim), (name, array.sharding)
        assert [s.data.shape for s in array.addressable_shards] == [
            s.data.shape for s in like[name].addressable_shards
        ], name


# --- what is compiled ------------------------------------------------------------------------------------------------
@contextmanager
def compiled(found):
    """The HLO of all that is compiled in the block."""
    before = set(DUMP.glob("*after_optimizations.txt"))
    yield
    found += [path.read_text() for path in sorted(set(DUMP.glob("*after_optimizations.txt")) - before)]


@contextmanager
def local():
    """Nothing that is compiled in the block makes devices exchange anything."""
    found = []
    with compiled(found):
        yield found
    for hlo in found:
        assert not re.search(COLLECTIVES, hlo), hlo


def held(avg):
    """The arrays of an average, besides those of leaves that are copied, which it only exchanges."""
    return [*avg._contents.mean.arrays, *(array for rest in avg._contents.mean.rests for array in rest)]


def raised(error, call, *args):
    try:
        call(*args)
    except error as cause:
        return str(cause)
    raise AssertionError(f"no {error.__name__}")


# --- claims ----------------------------------------------------------------------------------------------------------
def check_collectives_are_seen():
    """What reads the HLO sees a sum over devices, an array that is gathered, and one laid out otherwise."""
    mesh = MESHES["Auto"]
    array = jax.device_put(np.ones((8, 8), np.float32), NamedSharding(mesh, PartitionSpec("x")))
    for run, spec in ((jnp.sum, ()), (lambda x: x + 1, ()), (lambda x: x + 2, (None, "x"))):
        found = []
        with compiled(found):
            jax.jit(run, out_shardings=NamedSharding(mesh, PartitionSpec(*spec)))(array)
        assert any(re.search(COLLECTIVES, hlo) for hlo in found), found


def check_update():
    """An average of sharded arrays is NumPy's, each array laid out as its leaf; nothing compiled moves elements."""
    for mesh in MESHES.values():
        avg = ms.Average(on_devices(values(0), mesh), RULE)
        for step in range(5):
            tree = on_devices(values(step), mesh)
            with local() as found:
                avg.update(tree)
            assert bool(found) == (step == 0), (step, len(found))
        with local():
            value, snapshot = avg.value, avg.snapshot().value
        assert_close(value, averaged(5))
        assert_laid_out(value, tree)
        assert_same_bits(snapshot, value)
        assert_laid_out(snapshot, tree)
        assert {name: array.dtype for name, array in value.items()} == {n: array.dtype for n, array in tree.items()}


def check_donated():
    """An update consumes the arrays of the state and no others, and each result is written over one of them."""
    for mesh, options in ((MESHES["Auto"], {}), (MESHES["Explicit"], COMPENSATED)):
        first = on_devices(few(values(0)), mesh)
        avg = ms.Average(first, RULE, **options)
        avg.update(on_devices(few(values(1)), mesh))
        before, tree = held(avg), on_devices(few(values(2)), mesh)
        avg.update(tree)
        assert all(array.is_deleted() for array in before)
        assert not any(array.is_deleted() for array in [*first.values(), *tree.values(), *held(avg)])


def check_donation_is_compiled():
    """In the HLO of an update each array of the state has the memory of an argument."""
    shapes = {"a": ((24, 8), ("x", "y")), "b": ((40,), ("x",))}
    mesh = MESHES["Auto"]
    for options, parts in (({}, 1), (COMPENSATED, 2)):
        tree = {
            name: jax.device_put(np.ones(shape, np.float32), NamedSharding(mesh, PartitionSpec(*spec)))
            for name, (shape, spec) in shapes.items()
        }
        avg = ms.Average(tree, RULE, **options)
        if options:  # such an average is compiled with the first value
            jax.clear_caches()
        with local() as found:
            avg.update(tree)
        aliased = [len(re.findall("(?:may|must)-alias", hlo)) for hlo in found]
        assert max(aliased) == len(shapes) * parts, (aliased, found)


def check_where():
    """A mask may be on any device, or on all: it is one for all arrays, and nothing moves but itself."""
    auto, explicit = MESHES.values()
    everywhere = NamedSharding(explicit, PartitionSpec())
    for mesh, place in ((auto, None), (explicit, jax.devices()[0]), (auto, jax.devices()[5]), (explicit, everywhere)):
        avg = ms.Average(on_devices(values(0), mesh), RULE)
        for step in range(3):
            for flag in (True, False):
                mask = jnp.array(flag) if place is None else jax.device_put(jnp.array(flag), place)
                tree = on_devices(values(step if flag else 100), mesh)
                with local():
                    avg.update(tree, where=mask)
        assert avg.count == 3
        assert_close(avg.value, averaged(3))
        assert_laid_out(avg.value, tree)


def check_where_moves():
    """Masks of one average may be on other devices at each update, and may be missing."""
    mesh = MESHES["Auto"]
    avg = ms.Average(on_devices(values(0), mesh), RULE)
    for step, place in enumerate((jax.devices()[0], jax.devices()[5], NamedSharding(mesh, PartitionSpec()), None)):
        mask = None if place is None else jax.device_put(jnp.array(True), place)
        avg.update(on_devices(values(step), mesh), where=mask)
    assert avg.count == 4
    assert_close(avg.value, averaged(4))


def check_rounding():
    """An average of sharded arrays in bfloat16 follows the float64 one, laid out as they are; nothing moves."""
    # An update is off by a unit in the last place of the average, which is below 4; those of before fade by DECAY.
    for mesh, (rounding, unit) in zip(MESHES.values(), (("compensated", 2**-14), ("stochastic", 2**-6)), strict=True):
        avg = ms.Average(on_devices(few(values(0)), mesh), RULE, dtype="bfloat16", rounding=rounding, seed=4)
        for step in range(5):
            tree = on_devices(few(values(step)), mesh)
            with local():
                avg.update(tree)
        with local():
            value = avg.snapshot().value
        assert max(np.abs(array).max() for name, array in value.items() if name != "counter") < 4
        assert_close(value, few(averaged(5)), rtol=0, atol=unit / (1 - DECAY))
        assert_laid_out(value, tree)
        assert {array.dtype.name for array in avg._contents.mean.arrays} == {"bfloat16"}


def check_rounding_by_position():
    """The random bits go by the position in the whole array: sharded or not, the average is the same to the bit."""
    for mesh, name in zip([*MESHES.values()] * 2, ("columns", "blocks", "turned", "all devices"), strict=True):
        shape, spec = LAYOUTS[name]
        averages = []
        for sharding in (SingleDeviceSharding(jax.devices()[0]), NamedSharding(mesh, PartitionSpec(*spec))):
            avg = ms.Average(jnp.zeros(shape, device=sharding), RULE, dtype="bfloat16", rounding="stochastic")
            for step in range(3):
                avg.update(jax.device_put(values(step)[name], sharding))
            averages.append(np.asarray(avg.snapshot().value))
        np.testing.assert_array_equal(*averages, err_msg=name)


def check_bfloat16():
    """Of sharded bfloat16 arrays the average is held in float32, and read in bfloat16."""
    mesh = MESHES["Explicit"]
    avg, mean = ms.Average(on_devices(values(0), mesh, "bfloat16"), RULE), None
    for step in range(4):
        tree = on_devices(values(step), mesh, "bfloat16")
        with local():
            avg.update(tree)
        new = {name: np.asarray(array).astype(np.float64) for name, array in tree.items() if name != "counter"}
        mean = new if mean is None else {n: DECAY * mean[n] + (1 - DECAY) * v for n, v in new.items()}
    snapshot, value = avg.snapshot().value, avg.value
    assert snapshot.pop("counter").dtype == jnp.int32
    assert {array.dtype.name for array in snapshot.values()} == {"float32"}
    assert_close(snapshot, mean)
    assert value["rows"].dtype == jnp.bfloat16
    assert_laid_out(value, tree)


def check_trained():
    """The average follows parameters as they come out of a jitted step over a sharded batch, donated each time."""
    mesh = MESHES["Auto"]
    rng = np.random.default_rng(0)
    tree = {"w": rng.normal(size=(16, 8)).astype(np.float32), "b": np.zeros(8, np.float32)}
    specs = {"w": PartitionSpec("x", "y"), "b": PartitionSpec()}
    params = {name: jax.device_put(array, NamedSharding(mesh, specs[name])) for name, array in tree.items()}
    batch = jax.device_put(rng.normal(size=(32, 16)).astype(np.float32), NamedSharding(mesh, PartitionSpec("x")))

    def loss(params):
        return jnp.mean((jnp.tanh(batch @ params["w"] + params["b"]) - 1) ** 2)

    @jax.jit
    def train(params):
        new = jax.tree.map(lambda p, g: p - 0.5 * g, params, jax.grad(loss)(params))
        return jax.lax.with_sharding_constraint(new, {n: NamedSharding(mesh, spec) for n, spec in specs.items()})

    avg, mean = ms.Average(params, RULE), None
    for _ in range(4):
        params = train(params)
        with local():
            avg.update(params)
        new = {name: np.asarray(array).astype(np.float64) for name, array in params.items()}
        mean = new if mean is None else {n: DECAY * mean[n] + (1 - DECAY) * v for n, v in new.items()}
    assert_close(avg.value, mean)
    assert_laid_out(avg.value, params)


def check_state():
    """`load_state_dict` lays out the arrays as the average has them, whichever way they come; it goes on to the bit."""
    for mesh, options in ((MESHES["Auto"], COMPENSATED), (MESHES["Explicit"], {})):
        avg = ms.Average(on_devices(values(0), mesh), RULE, **options)
        for step in range(3):
            avg.update(on_devices(values(step), mesh))
        with local():
            state = avg.state_dict()
        assert_laid_out({**state["average"], **state["copied"]}, on_devices(values(0), mesh))
        for given in (state, jax.tree.map(np.asarray, state)):
            other = ms.Average(on_devices(values(9), mesh), RULE, **options)
            other.load_state_dict(given)
            assert_same_bits(other.value, avg.value)
            other.update(on_devices(values(3), mesh))
            assert_laid_out(other.value, on_devices(values(0), mesh))
            assert not any(array.is_deleted() for array in jax.tree.leaves(state) if isinstance(array, jax.Array))
        avg.update(on_devices(values(3), mesh))
        assert_same_bits(other.value, avg.value)


def check_file():
    """`save` gathers sharded arrays in a file that any average of the leaves loads: sharded likewise, or not at all."""
    avg = ms.Average(on_devices(values(0), MESHES["Auto"]), RULE)
    for step in range(3):
        avg.update(on_devices(values(step), MESHES["Auto"]))
    path = FOLDER / "average.safetensors"
    ms.save(path, avg)
    for mesh in MESHES.values():
        other = ms.Average(on_devices(values(9), mesh), RULE)
        ms.load(path, other)
        assert other.count == 3
        assert_same_bits(other.value, avg.value)
        assert_laid_out(other.value, on_devices(values(0), mesh))
        other.update(on_devices(values(3), mesh))
        assert_close(other.value, averaged(4))
    alone = ms.Average(values(9), RULE)
    ms.load(path, alone)
    assert_same_bits(alone.value, avg.value)


def check_mismatches():
    """A leaf that is laid out otherwise than in the average raises by its name, and nothing was updated."""
    mesh = MESHES["Auto"]

    def laid(name, *spec):
        return jax.device_put(values(1)[name], NamedSharding(mesh, PartitionSpec(*spec)))

    avg = ms.Average(on_devices(values(0), mesh), RULE)
    avg.update(on_devices(values(0), mesh))
    before = avg.value
    tree = on_devices(values(1), mesh)
    others = {
        "rows": laid("rows", None, "x"),
        "everywhere": jnp.asarray(values(1)["everywhere"]),
        "fourth": jax.device_put(tree["fourth"], jax.devices()[2]),
        "all devices": jax.device_put(tree["all devices"], jax.devices()[0]),
    }
    for name, leaf in others.items():
        assert repr(name) in raised(TreeMismatch, avg.update, {**tree, name: leaf})
    assert avg.count == 1
    assert_same_bits(avg.value, before)
    avg.update({**tree, "rows": laid("rows", "x", None)})  # the same layout in other words
    pair = {"a": laid("rows", "x"), "b": laid("rows", None, "x")}
    avg = ms.Average(pair, RULE)
    avg.update(pair)
    assert "'a'" in raised(TreeMismatch, avg.update, {"a": pair["b"], "b": pair["a"]})


def check_uneven_is_jax_s_to_refuse():
    """JAX has no arrays that are sharded unevenly: there is nothing to average."""
    rows = NamedSharding(MESHES["Auto"], PartitionSpec("x"))
    assert "divi" in raised(ValueError, jax.device_put, np.ones((5, 3)), rows), "now it has: add them to LAYOUTS"


def check_offload():
    """Offloaded, sharded arrays are gathered on the host, and averaged there: the same numbers, on its device."""
    for mesh in MESHES.values():
        avg = ms.Average(on_devices(values(0), mesh), RULE, offload="cpu")
        for step in range(4):
            mask = None if step % 2 else jax.device_put(jnp.array(True), jax.devices()[5])
            avg.update(on_devices(values(step), mesh), where=mask)
        avg.update(on_devices(values(99), mesh), where=jax.device_put(jnp.array(False), jax.devices()[5]))
        assert avg.count == 4
        assert_close(avg.value, averaged(4))
        assert {array.sharding for array in held(avg)} == {SingleDeviceSharding(jax.devices("cpu")[0])}


def main():
    results = {}
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            try:
                check()
                results[name] = ""
            except Exception:
                results[name] = traceback.format_exc()
    (FOLDER / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
