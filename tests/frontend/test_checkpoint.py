"""Variables in files: what was saved is loaded, by any backend, or nothing is changed."""

import os

import numpy as np
import pytest
from helpers import to_numpy
from helpers_frontend import number, raises

import multisched as ms
from multisched import errors
from multisched.arrays import BITS
from multisched.runtime.files import read_arrays, write_arrays

BACKENDS = ("numpy", "jax", "torch", "array_api_strict")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.safetensors"


def installed(name):
    pytest.importorskip(name, reason=f"{name}, the other backend here, is not installed")
    return ms.get_backend(name)


def declare(scale=1):
    """A schedule, an average and two variables of the user's, and a function of them all."""
    x = ms.Placeholder((2,), name="x")
    lr = ms.PiecewiseConstant(0.5, {2: 2})
    average, _ = ms.ExponentialMovingAverage(x, 0.75, debias=True)
    with ms.Scope("model"):
        w = ms.Variable([[1.0, -1.0]] * 2 * scale, name="w", trainable=scale == 1)
        seen = ms.Variable(False, name="seen")
    return ms.function(x, outputs=(lr, average, w), updates={**ms.get_updates(), w: w * lr, seen: seen | (x[0] > 0)})


def bits():
    """All variables of the graph, to the bit."""
    arrays = {v.path: v.backend.to_numpy(v.value) for v in ms.get_variables()}
    return {path: (a.dtype.name, a.shape, a.tobytes()) for path, a in arrays.items()}


def run(f, values):
    return [to_numpy(output, f.backend.name).tobytes() for value in values for output in f(value)]


def test_a_run_goes_on_where_it_was_saved(backend, path):
    """Saved at any step and loaded into the same declaration elsewhere, the run goes on bit for bit (law 10)."""
    stream = np.random.default_rng(0).normal(size=(6, 2))
    f = declare()
    run(f, stream[:3])
    ms.save_variables(path)
    saved, unbroken = bits(), run(f, stream[3:])
    with ms.Graph("another"):
        g = declare()
        ms.load_variables(path)
        assert bits() == saved
        assert run(g, stream[3:]) == unbroken


@pytest.mark.parametrize("loading", BACKENDS)
def test_a_file_of_one_backend_loads_in_another(backend, loading, path):
    """Every dtype that both backends have, bfloat16 among them, arrives to the bit."""
    other, here = installed(loading), ms.get_backend()
    dtypes = [d for d in BITS if d != "complex128" and here.supports(d) and other.supports(d)]
    held = [ms.Variable(np.asarray([True, False, True]), name="bool")]
    held += [ms.Variable([2, 0, 3], dtype=d, name=d) for d in dtypes if d != "bool"]
    ms.save_variables(path)
    with ms.Graph("other"):
        held += [
            ms.Variable([False] * 3 if d == "bool" else [0, 0, 0], dtype=d, name=d, backend=loading) for d in dtypes
        ]
        ms.load_variables(path)
        arrived = {v.name: other.to_numpy(v.value) for v in ms.get_variables()}
    assert {d: a.dtype.name for d, a in arrived.items()} == {d: d for d in dtypes}
    assert all(a.tolist() == ([True, False, True] if d == "bool" else [2, 0, 3]) for d, a in arrived.items())
    assert "bfloat16" in dtypes or "array_api_strict" in (backend, loading)


def test_a_variable_loaded_is_apart_from_the_file(backend, path):
    """Variables that were loaded can be updated, and reset to their own first values, not to those of the file."""
    w = ms.Variable([1.0, 2.0], name="w")
    write_arrays(path, {"/w": np.asarray([5, 6], np.float32)})
    ms.load_variables(path)
    ms.function(updates={w: w + 1})()
    assert to_numpy(w.value, backend).tolist() == [6.0, 7.0]
    w.reset()
    assert to_numpy(w.value, backend).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("kind", [str, os.fspath, lambda p: p], ids=["str", "fspath", "Path"])
def test_paths_are_of_any_kind(backend, kind, path):
    """A path may be a string or an `os.PathLike`."""
    w = ms.Variable(1.0, name="w")
    ms.save_variables(kind(path))
    w.update(2.0)
    ms.load_variables(kind(path))
    assert number(w.value, backend) == 1.0


GLOBS = {
    "all": ({}, {"/w", "/b", "/enc/w", "/enc/b", "/enc/deep/w"}),
    "a name": ({"name": "w"}, {"/w", "/enc/w", "/enc/deep/w"}),
    "a scope": ({"scope": "/enc/"}, {"/enc/w", "/enc/b"}),
    "a scope and below": ({"scope": "/enc/*"}, {"/enc/w", "/enc/b", "/enc/deep/w"}),
    "both": ({"name": "[b]", "scope": "/*/"}, {"/enc/b"}),
    "none": ({"name": "z*"}, set()),
}


def declare_scopes():
    enc = ms.Scope("enc")
    held = [ms.Variable(1.0, name="w"), ms.Variable(1.0, name="b")]
    with enc:
        held += [ms.Variable(1.0, name="w"), ms.Variable(1.0, name="b")]
        with ms.Scope("deep"):
            held.append(ms.Variable(1.0, name="w"))
    return held


@pytest.mark.parametrize(("globs", "matching"), GLOBS.values(), ids=GLOBS)
def test_globs_choose_what_is_saved(backend, globs, matching, path):
    """A file has the variables whose name and scope match, and no others."""
    held = declare_scopes()
    ms.save_variables(path, **globs)
    assert set(read_arrays(path)) == matching
    assert len(held) == 5


@pytest.mark.parametrize(("globs", "matching"), GLOBS.values(), ids=GLOBS)
def test_globs_choose_what_is_loaded(backend, globs, matching, path):
    """Loading changes the variables that match alone, and needs no others in the file or in the graph."""
    held = declare_scopes()
    everything = {v.path for v in held}
    outside = {"/else/v": np.zeros(3, np.float32)} if matching != everything else {}
    write_arrays(path, {p: np.asarray(2, np.float32) for p in everything} | outside)
    ms.load_variables(path, **globs)
    assert {v.path for v in held if number(v.value, backend) == 2.0} == matching
    write_arrays(path, {p: np.asarray(3, np.float32) for p in matching})
    ms.load_variables(path, **globs)
    assert {v.path for v in held if number(v.value, backend) == 3.0} == matching


# --- what does not fit -----------------------------------------------------------------------------------------------
def changed(**changes):
    """Changes to the entries of a file; None takes one out."""

    def change(entries):
        return {
            k: v
            for k, v in (entries | {"/" + k.replace("__", "/"): v for k, v in changes.items()}).items()
            if v is not None
        }

    return change


MISFITS = {
    "a missing entry": (changed(model__w=None), ("no entry", "/model/w")),
    "two missing entries": (changed(model__w=None, model__seen=None), ("/model/seen", "/model/w")),
    "no entries": (lambda entries: {}, ("/ExponentialMovingAverage/EMA", "/PiecewiseConstant/step", "/model/w")),
    "an extra entry": (changed(model__v=np.zeros(2)), ("no variable", "/model/v")),
    "a renamed entry": (changed(model__w=None, model__w_1=np.zeros((2, 2), np.float32)), ("/model/w",)),
    "another shape": (changed(model__w=np.zeros((2, 3), np.float32)), ("/model/w", "(2, 3)", "(2, 2)")),
    "a shape that would broadcast": (changed(model__w=np.zeros((1, 2), np.float32)), ("/model/w", "(1, 2)", "(2, 2)")),
    "a transposed scalar": (changed(PiecewiseConstant__step=np.zeros(1, np.int32)), ("step", "(1,)", "()")),
    "a wider dtype": (changed(model__w=np.zeros((2, 2))), ("/model/w", "float64", "float32")),
    "a narrower dtype": (changed(model__w=np.zeros((2, 2), np.float16)), ("/model/w", "float16", "float32")),
    "integers for floats": (changed(model__w=np.zeros((2, 2), np.int32)), ("/model/w", "int32", "float32")),
    "bytes for booleans": (changed(model__seen=np.uint8(1).reshape(())), ("/model/seen", "uint8", "bool")),
}


@pytest.mark.parametrize(("change", "words"), MISFITS.values(), ids=MISFITS)
def test_an_entry_that_does_not_fit_is_named(backend, change, words, path):
    """What is missing, extra, misshaped or of another dtype is named with both forms, and no variable changes."""
    f = declare()
    ms.save_variables(path)
    run(f, [[1, 2]])
    write_arrays(path, change(read_arrays(path)))
    before = bits()
    with raises(errors.CheckpointMismatch, str(path), *words):
        ms.load_variables(path)
    assert bits() == before


def test_a_larger_model_does_not_load(backend, path):
    """A file of one model does not load into a model of another size."""
    with ms.Graph("small"):
        held = declare()
        ms.save_variables(path)
    f = declare(scale=2)
    before = bits()
    with raises(errors.CheckpointMismatch, "/model/w", "(2, 2)", "(4, 2)"):
        ms.load_variables(path)
    assert bits() == before
    assert len(held.updated) == len(f.updated)


def spoilt(content, rng):
    """The file cut at thirty places, and with one bit flipped at sixty."""
    for length in sorted({0, 1, 7, 8, 9, len(content) - 1, *rng.integers(0, len(content), 24)}):
        yield content[:length]
    for place, bit in zip(rng.integers(0, len(content), 60), rng.integers(0, 8, 60), strict=True):
        yield content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :]


def test_a_spoilt_file_changes_nothing(backend, path):
    """Cut short or with a bit flipped, a file is a `CheckpointError` that changes nothing, or loads as it was saved."""
    f = declare()
    ms.save_variables(path)
    saved = bits()
    run(f, [[1, 2]])
    before, outcomes = bits(), []
    for content in spoilt(path.read_bytes(), np.random.default_rng(0)):
        path.write_bytes(content)
        try:
            ms.load_variables(path)
            outcomes.append(bits() == saved)
            run(f, [[1, 2]])
            f.state = {p: np.frombuffer(raw, dtype).reshape(shape) for p, (dtype, shape, raw) in before.items()}
        except errors.CheckpointError:
            outcomes.append(bits() == before)
    assert all(outcomes)
    assert len(outcomes) > 80


def test_no_file_is_an_error_of_the_system(backend, path):
    """Without a file, or with a folder in its place, the `OSError` passes, and nothing changes."""
    held = declare()
    before = bits()
    with pytest.raises(FileNotFoundError):
        ms.load_variables(path)
    with pytest.raises(IsADirectoryError):
        ms.load_variables(path.parent)
    with pytest.raises(FileNotFoundError):
        ms.save_variables(path / "below" / "nothing")
    assert bits() == before
    assert len(held.updated) == 6


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()], ids=repr)
def test_an_interrupted_save_leaves_the_old_file(backend, path, monkeypatch, error):
    """Where a save fails at the last moment, the old file is whole, alone in its folder, and loads."""
    w = ms.Variable(1.0, name="w")
    ms.save_variables(path)
    w.update(2.0)

    def fail(*args):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(type(error)):
            ms.save_variables(path)
    assert os.listdir(path.parent) == [path.name]
    ms.load_variables(path)
    assert number(w.value, backend) == 1.0


def test_a_dtype_that_files_lack_is_an_error(backend, path):
    """Saving a complex128 variable, for which safetensors has no dtype, names it; no file appears."""
    if not ms.get_backend().supports("complex128"):
        pytest.skip("this backend has no complex128 as it is configured")
    w = ms.Variable([1j], dtype="complex128", name="w")
    with raises(errors.DTypeError, w.path, "complex128"):
        ms.save_variables(path)
    assert not path.exists()
