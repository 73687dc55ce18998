"""The state of an average as plain data: runs go on to the bit, what does not fit is refused and changes nothing."""

import io
import math
import os
import subprocess
import sys
from collections import OrderedDict
from types import MappingProxyType

import numpy as np
import pytest

import multisched as ms
from multisched.errors import CheckpointMismatch, SwapError, TracedInputError

RULES = {
    "ema": ms.ema(0.9),
    "ema, decay_min": ms.ema(0.99, decay_min=True),
    "ema, debias": ms.ema(0.9, debias=True),
    "ema, Schedule": ms.ema(ms.linear(0.1, 0.9, 8)),
    "ema, all": ms.ema(ms.linear(0.1, 0.9, 8), decay_min=True, debias=True),
    "swa": ms.swa(),
    "power_ema": ms.power_ema(0.1),
    "paced": ms.paced(ms.ema(0.9, debias=True), start=2, every=3),
    "paced swa": ms.paced(ms.swa(), every=2),
}
MASKS = {
    "no mask": [None] * 10,
    "mask before": [True, False, True] + [None] * 7,
    "mask after": [None] * 6 + [False, True, True, False],
}
AT = 5
"""The update at which a run is broken off."""


def here(name, array):
    """An array of the host in a backend."""
    array = np.asarray(array)
    return ms.get_backend(name).asarray(array, array.dtype.name)


def tree(name, step=0):
    """Leaves that are packed and alone, averaged and copied, which change from step to step."""
    draw = np.random.default_rng(step).standard_normal
    leaves = {
        "large": draw((130, 130)).astype(np.float32),
        "w": draw((3, 4)).astype(np.float32),
        "b": draw(4).astype(np.float32),
        "s": np.asarray(draw(), np.float32),
        "n": np.asarray(step, np.int32),
    }
    return {key: here(name, leaf) for key, leaf in leaves.items()}


def averaged(name, rule=RULES["ema, all"], updates=AT, **options):
    average = ms.Average(tree(name), rule, backend=name, **options)
    for step in range(updates):
        average.update(tree(name, step))
    return average


def arrays(state):
    return {
        f"{section}/{name}": array
        for section in ("average", "compensation", "copied")
        for name, array in state.get(section, {}).items()
    }


def bits(average):
    """All that an average holds, to the bit."""
    state, backend = average.state_dict(), average._contents.backend
    told = {name: backend.to_numpy(array) for name, array in arrays(state).items()}
    weight = np.asarray(state["weight"])
    return (
        state["count"],
        weight.dtype.name,
        weight.tobytes(),
        {n: (a.dtype.name, a.tobytes()) for n, a in told.items()},
    )


# --- what it is ------------------------------------------------------------------------------------------------------
def test_it_is_plain_data(backend):
    """A dict of an int, arrays of the backend, and dicts of these by name; only the weight may be NumPy's."""
    average, adapter = averaged(backend), ms.get_backend(backend)
    state = average.state_dict()
    assert {name: type(value) for name, value in state.items() if isinstance(value, dict | int)} == {
        "count": int,
        "average": dict,
        "copied": dict,
    }
    assert set(state) == {"count", "weight", "rule", "average", "copied"}
    assert adapter.to_numpy(state["rule"]).tobytes().rstrip(b"\0").decode() == repr(average.rule)
    assert all(adapter.owns(array) for array in arrays(state).values())
    assert state["count"] == AT
    assert np.asarray(state["weight"]).shape == ()
    assert np.asarray(state["weight"]).dtype == np.float64
    assert set(state["average"]) == {"large", "w", "b", "s"}
    assert set(state["copied"]) == {"n"}
    assert all(tuple(state["average"][name].shape) == leaf.shape for name, leaf in tree("numpy").items() if name != "n")


def test_it_shares_no_memory(backend):
    """Later updates do not change a state, nor does what is done to a state change the average that gave or took it."""
    average = averaged(backend, rounding=None)
    state, before = average.state_dict(), bits(average)
    kept = {name: average._contents.backend.to_numpy(array) for name, array in arrays(state).items()}
    average.update(tree(backend, 8))
    for name, array in arrays(state).items():
        assert np.array_equal(average._contents.backend.to_numpy(array), kept[name])
    average.load_state_dict(state)
    assert bits(average) == before
    if backend in ("numpy", "torch"):
        for array in arrays(state).values():
            array[...] = 77
        assert bits(average) == before
        again = average.state_dict()
        for array in arrays(again).values():
            array[...] = 77
        assert bits(average) == before
    average.update(tree(backend, 9))
    assert average.count == AT + 1


def test_a_module_has_the_names_of_its_leaves(torch):
    """The state of a module has the names that its own state dict has, in tensors that need no gradient."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    state = ms.Average(model, RULES["swa"]).state_dict()
    assert set(arrays(state)) == {
        f"{'copied' if name.endswith('tracked') else 'average'}/{name}" for name in model.state_dict()
    }
    assert not any(tensor.requires_grad for tensor in arrays(state).values())


# --- going on --------------------------------------------------------------------------------------------------------
def broken_off(name, rule, masks, **options):
    """What a run of ten updates ends with: unbroken, and with its state handed to another average in the midst."""
    ends = []
    for resumed in (False, True):
        average = ms.Average(tree(name), rule, backend=name, **options)
        for step, where in enumerate(masks):
            if resumed and step == AT:
                state = average.state_dict()
                average = ms.Average(tree(name, 77), rule, backend=name, **options)
                average.load_state_dict(state)
            average.update(tree(name, step), where=None if where is None else here(name, np.asarray(where)))
        ends.append(bits(average))
    return ends


@pytest.mark.parametrize("masks", MASKS)
@pytest.mark.parametrize("rule", RULES)
def test_a_run_goes_on_to_the_bit(backend, rule, masks):
    """For every rule, with a mask on the device before or after, the end is that of the run that was not broken."""
    unbroken, resumed = broken_off(backend, RULES[rule], MASKS[masks])
    assert resumed == unbroken


@pytest.mark.parametrize("masks", ["no mask", "mask before"])
@pytest.mark.parametrize("rule", ["ema, all", "swa"])
@pytest.mark.parametrize("rounding", ["stochastic", "compensated"])
def test_a_rounded_run_goes_on_to_the_bit(backend, rounding, rule, masks):
    """In bfloat16 too: the random bits go on where they were, and so does the compensation."""
    if backend == "array_api_strict":
        pytest.skip("array_api_strict has no bfloat16")
    unbroken, resumed = broken_off(backend, RULES[rule], MASKS[masks], dtype="bfloat16", rounding=rounding, seed=3)
    assert resumed == unbroken


@pytest.mark.parametrize("masks", ["no mask", "mask before"])
def test_a_file_goes_on_to_the_bit(backend, tmp_path, masks):
    """A run that is broken off at a file ends as the unbroken one, also where a device has counted."""
    masks, rule = MASKS[masks], RULES["ema, all"]
    unbroken, _ = broken_off(backend, rule, masks)
    average = ms.Average(tree(backend), rule, backend=backend)
    for step, where in enumerate(masks):
        if step == AT:
            ms.save(tmp_path / "file", average)
            average = ms.Average(tree(backend, 77), rule, backend=backend)
            ms.load(tmp_path / "file", average)
        average.update(tree(backend, step), where=None if where is None else here(backend, np.asarray(where)))
    assert bits(average) == unbroken


def test_an_offloaded_run_goes_on_to_the_bit(torch):
    """What is on its way to the host is in the state, and no update is lost or counted twice."""
    unbroken, resumed = broken_off("torch", RULES["ema, all"], MASKS["no mask"], offload="cpu")
    plain, _ = broken_off("torch", RULES["ema, all"], MASKS["no mask"])
    assert resumed == unbroken == plain


@pytest.mark.parametrize("at", [0, 2**31 - 2, 2**31 - 1])
def test_counts_come_back_at_their_ends(backend, at):
    """The first and the last counts there are can be loaded, and the last one stays."""
    average = averaged(backend, ms.ema(0.9))
    average.load_state_dict({**average.state_dict(), "count": at})
    assert average.count == at
    average.update(tree(backend, 1))
    assert average.count == min(at + 1, 2**31 - 1)


# --- in the checkpoints of others ------------------------------------------------------------------------------------
@pytest.mark.parametrize("options", [{}, {"dtype": "bfloat16", "rounding": "compensated"}], ids=["float32", "bfloat16"])
def test_torch_saves_it_without_pickled_code(torch, options):
    """`torch.load(weights_only=True)` reads what `torch.save` wrote of it."""
    average = averaged("torch", **options)
    file = io.BytesIO()
    torch.save(average.state_dict(), file)
    file.seek(0)
    other = averaged("torch", updates=0, **options)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert bits(other) == bits(average)


@pytest.mark.filterwarnings("ignore:torch.distributed is (disabled, unavailable|disabled):UserWarning")
@pytest.mark.parametrize("options", [{}, {"dtype": "bfloat16", "rounding": "compensated"}], ids=["float32", "bfloat16"])
def test_torch_distributed_checkpoint_saves_it(torch, tmp_path, options):
    """`torch.distributed.checkpoint` saves it and loads it in place into the state of another average."""
    import torch.distributed.checkpoint as dcp

    average, other = averaged("torch", **options), averaged("torch", updates=1, **options)
    dcp.save({"ema": average.state_dict()}, checkpoint_id=tmp_path / "checkpoint", no_dist=True)
    state = {"ema": other.state_dict()}
    dcp.load(state, checkpoint_id=tmp_path / "checkpoint", no_dist=True)
    other.load_state_dict(state["ema"])
    assert bits(other) == bits(average)


ORBAX = """
import sys
import numpy as np
import orbax.checkpoint as ocp
sys.path[:0] = {path!r}
from test_state_dict import averaged, bits

with ocp.StandardCheckpointer() as checkpointer:
    for options in ({{}}, {{"dtype": "bfloat16", "rounding": "compensated"}}):
        path = sys.argv[1] + str(len(options))
        average, other = averaged("jax", **options), averaged("jax", updates=0, **options)
        checkpointer.save(path, average.state_dict())
        checkpointer.wait_until_finished()
        for target in (other.state_dict(), None):
            other = averaged("jax", updates=0, **options)
            other.load_state_dict(checkpointer.restore(path, target))
            assert bits(other) == bits(average)
print("restored")
"""


def test_orbax_saves_it_as_a_pytree(jax, tmp_path):
    """Orbax saves and restores it, with and without a target; in a process of its own, whose threads may outlive it."""
    pytest.importorskip("orbax.checkpoint", reason="the test is about orbax-checkpoint, which is not installed")
    script = ORBAX.format(path=[os.path.dirname(__file__)])
    command = [sys.executable, "-c", script, str(tmp_path / "checkpoint")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout.split() == ["restored"], done.stderr


@pytest.mark.parametrize("kind", [OrderedDict, MappingProxyType], ids=lambda kind: kind.__name__)
def test_any_mapping_will_do(backend, kind):
    """A state may be any mapping, of Python numbers and arrays of NumPy."""
    average, other = averaged(backend), averaged(backend, updates=0)
    state = average.state_dict()
    host = {
        section: kind({name: average._contents.backend.to_numpy(array) for name, array in state[section].items()})
        for section in ("average", "copied")
    }
    told = {"count": np.int64(state["count"]), "weight": float(state["weight"]), "rule": repr(average.rule)}
    other.load_state_dict(kind({**told, **host}))
    assert bits(other) == bits(average)


# --- what does not fit -----------------------------------------------------------------------------------------------
def but(section, name, value):
    """A change of one array of a state."""
    return lambda state: {**state, section: {**state[section], name: value(state[section][name])}}


def without(section, name):
    return lambda state: {**state, section: {n: array for n, array in state[section].items() if n != name}}


def of_host(change):
    return lambda array: change(np.asarray(array))


class Shaped:
    """What looks like an array and has no values."""

    shape, dtype = (3, 4), np.dtype("float32")


BAD = {
    "None": (lambda state: None, "it is a dict"),
    "a list": (lambda state: list(state.items()), "it is a dict"),
    "a text": (lambda state: "state", "it is a dict"),
    "nothing": (lambda state: {}, "lacks the number 'count'"),
    "no weight": (lambda state: {n: v for n, v in state.items() if n != "weight"}, "lacks the number 'weight'"),
    "no average": (
        lambda state: {n: v for n, v in state.items() if n != "average"},
        "there is no 'b', .* in its average",
    ),
    "more": (lambda state: {**state, "decay": 0.9}, "entries 'decay'"),
    "keys of any kind": (lambda state: {**state, 5: 1, "x": 2, None: 3}, "entries 'x', 5, None"),
    "missing": (without("average", "w"), "there is no 'w' in its average"),
    "missing copy": (without("copied", "n"), "there is no 'n' in its copied"),
    "extra": (
        but("copied", "n", lambda n: n) and (lambda s: {**s, "copied": {**s["copied"], 7: s["weight"]}}),
        "'7' in",
    ),
    "in the wrong section": (
        lambda state: {**state, "average": {**state["average"], **state["copied"]}, "copied": {}},
        "'n' in its average is of no leaf",
    ),
    "compensation": (lambda state: {**state, "compensation": state["average"]}, 'rounding="compensated"'),
    "no table": (lambda state: {**state, "average": state["weight"]}, "average is a table of arrays"),
    "None for a table": (lambda state: {**state, "average": None}, "average is a table of arrays"),
    "shape": (but("average", "w", lambda w: w.T if hasattr(w, "T") else w), r"average/w has the shape \(4, 3\)"),
    "one more axis": (but("average", "b", lambda b: b[None, ...]), r"average/b has the shape \(1, 4\)"),
    "would broadcast": (but("average", "b", lambda b: b[:1]), r"average/b has the shape \(1,\)"),
    "dtype": (but("average", "w", of_host(lambda w: w + np.float64(1e300))), "average/w has the dtype float64"),
    "kind": (but("copied", "n", of_host(lambda n: n.astype(np.float32))), "copied/n has the dtype float32"),
    "unsigned": (but("copied", "n", of_host(lambda n: n.astype(np.uint32))), "copied/n has the dtype uint32"),
    "a number for an array": (but("copied", "n", lambda n: 3), "copied/n is no array"),
    "a list for an array": (but("average", "b", lambda b: [0.0] * 4), "average/b is no array"),
    "no values": (but("average", "w", lambda w: Shaped()), "average/w is no array with values"),
    "count below zero": (lambda state: {**state, "count": -1}, "count and weight are not"),
    "count too large": (lambda state: {**state, "count": 2**31}, "count and weight are not"),
    "count of 1e400": (lambda state: {**state, "count": 10**400}, "count and weight are not"),
    "half a count": (lambda state: {**state, "count": 2.5}, "count and weight are not"),
    "NaN count": (lambda state: {**state, "count": math.nan}, "count and weight are not"),
    "infinite count": (lambda state: {**state, "count": math.inf}, "count and weight are not"),
    "no count": (lambda state: {**state, "count": None}, "count is a number"),
    "text count": (lambda state: {**state, "count": "3"}, "count is a number"),
    "bool count": (lambda state: {**state, "count": True}, "count is a number"),
    "bool array count": (lambda state: {**state, "count": np.asarray(True)}, "count is a number"),
    "many counts": (lambda state: {**state, "count": np.asarray([1, 2])}, "count is a number"),
    "one count in an array": (lambda state: {**state, "count": np.asarray([1])}, "count is a number"),
    "NaN weight": (lambda state: {**state, "weight": math.nan}, "count and weight are not"),
    "NaN weight in an array": (lambda state: {**state, "weight": np.float32(math.nan)}, "count and weight are not"),
    "weight below zero": (lambda state: {**state, "weight": -0.5}, "count and weight are not"),
    "infinite weight": (lambda state: {**state, "weight": math.inf}, "count and weight are not"),
    "complex weight": (lambda state: {**state, "weight": 1j}, "weight is a number"),
    "many weights": (lambda state: {**state, "weight": state["average"]["b"]}, "weight is a number"),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_does_not_fit_changes_nothing(backend, bad):
    """A state that is not one of this average is a `CheckpointMismatch` that says what is wrong; all is as it was."""
    change, message = BAD[bad]
    average = averaged(backend)
    before, state = bits(average), averaged(backend, updates=2).state_dict()
    if bad in ("shape",) and backend == "array_api_strict":
        state["average"]["w"] = np.asarray(state["average"]["w"])
    with pytest.raises(CheckpointMismatch, match=message):
        average.load_state_dict(change(state))
    assert bits(average) == before
    average.update(tree(backend, 6))
    assert average.count == AT + 1


def test_a_compensated_average_needs_its_compensation(torch):
    """A state without what rounding took is refused by an average that keeps it, and the other way around."""
    options = {"dtype": "bfloat16", "rounding": "compensated"}
    average, plain = averaged("torch", **options), averaged("torch", dtype="bfloat16")
    before = bits(average), bits(plain)
    with pytest.raises(CheckpointMismatch, match="in its compensation"):
        average.load_state_dict(plain.state_dict())
    with pytest.raises(CheckpointMismatch, match='held with rounding="compensated"'):
        plain.load_state_dict(average.state_dict())
    assert (bits(average), bits(plain)) == before


def test_tensors_without_values_are_refused(torch):
    """A tensor of the meta device has a shape and a dtype, and nothing to load."""
    average = averaged("torch")
    before, state = bits(average), average.state_dict()
    for name in ("large", "b"):
        changed = {**state, "average": {**state["average"], name: state["average"][name].to("meta")}}
        with pytest.raises(CheckpointMismatch, match=f"average/{name}"):
            average.load_state_dict(changed)
    with pytest.raises(CheckpointMismatch, match="count"):
        average.load_state_dict({**state, "count": torch.tensor(3, device="meta")})
    assert bits(average) == before


def test_traced_arrays_are_refused(jax):
    """Inside `jax.jit`, where arrays have no values, a state is neither given nor taken, and no tracer gets out."""
    average = averaged("jax")
    before, state = bits(average), average.state_dict()
    kept = []

    @jax.jit
    def load(w):
        for use in (average.state_dict, lambda: average.load_state_dict(state)):
            with pytest.raises(TracedInputError, match="outside of what a compiler traces"):
                use()
        kept.append(w)
        return w

    load(state["average"]["w"])
    with pytest.raises(CheckpointMismatch, match="average/w is no array with values"):
        average.load_state_dict({**state, "average": {**state["average"], "w": kept[0]}})
    with pytest.raises(CheckpointMismatch, match="count is no array with values"):
        average.load_state_dict({**state, "count": kept[0]})
    assert bits(average) == before


def test_arrays_of_shapes_alone_are_refused(jax):
    """What `jax.eval_shape` gives, and a checkpointer may leave in place of arrays, is no array with values."""
    average = averaged("jax")
    before, state = bits(average), average.state_dict()
    shapes = jax.eval_shape(lambda: state)
    with pytest.raises(CheckpointMismatch, match="is no array with values"):
        average.load_state_dict({**shapes, "count": 3, "weight": 0.0})
    assert bits(average) == before


def test_not_while_the_model_is_the_average(torch):
    """Inside `swapped` giving and taking a state are errors that say so."""
    average = ms.Average(torch.nn.Linear(2, 2), RULES["swa"])
    state = average.state_dict()
    with average.swapped():
        with pytest.raises(SwapError, match="save it"):
            average.state_dict()
        with pytest.raises(SwapError, match="load it"):
            average.load_state_dict(state)
    average.load_state_dict(state)


def test_a_weight_of_a_device_is_saved_in_its_precision(torch, tmp_path):
    """An average in double precision, of which a device counts the updates, goes on to the bit from dict and file."""
    draw, ok = torch.Generator().manual_seed(0), torch.tensor(True)
    values = [torch.randn(3, dtype=torch.float64, generator=draw) for _ in range(12)]
    rule = ms.ema(0.999, debias=True)
    whole, by_dict, by_file = (ms.Average([values[0]], rule) for _ in range(3))
    for n, value in enumerate(values):
        if n == 5:
            by_dict.load_state_dict(whole.state_dict())
            ms.save(tmp_path / "average.safetensors", whole)
            ms.load(tmp_path / "average.safetensors", by_file)
        for avg in (whole, by_dict, by_file) if n >= 5 else (whole,):
            avg.update([value], where=ok)
    for avg in (by_dict, by_file):
        assert avg.count == whole.count == 12
        assert torch.equal(avg.value[0], whole.value[0])
