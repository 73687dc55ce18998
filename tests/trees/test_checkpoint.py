"""Averages in files: any backend loads any other's, whole or not at all, and all damage is found."""

import errno
import json
import os
import re
import stat
import subprocess
import sys
import threading
import tracemalloc
import zlib

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

import multisched as ms
from multisched import errors
from multisched.runtime.files import read_arrays, write_arrays

PAIRED = ("numpy", "jax", "torch")
RULE = ms.ema(0.75, debias=True)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "average.safetensors"


def here(name, array):
    """An array of the host in a backend."""
    array = np.asarray(array)
    return ms.get_backend(name).asarray(array, array.dtype.name)


def tree(name, step=0):
    """Leaves of many dtypes and shapes, packed and alone, averaged and copied, which change from step to step."""
    floats = {
        "large": np.linspace(-1, 1, 20_000, dtype=np.float32).reshape(100, 200),
        "float32": np.asarray([[0.1, 0.2, 0.3]], np.float32),
        "scalar": np.asarray(1.5, np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "bfloat16": np.asarray([1, 2, 3, 4], ml_dtypes.bfloat16),
        "float16": np.asarray([[1], [2]], np.float16),
        "complex64": np.asarray([1 + 2j, 3 - 1j], np.complex64),
    }
    others = {
        "int32": np.asarray([1, 2, 3], np.int32),
        "int8": np.asarray(5, np.int8),
        "uint8": np.asarray([255, 0], np.uint8),
        "bool": np.asarray([True, False]),
    }
    moved = {key: (array * (1 + step)).astype(array.dtype) for key, array in floats.items()}
    moved |= {
        key: array if array.dtype == bool else (array - step).astype(array.dtype) for key, array in others.items()
    }
    return {"layers": [{key: here(name, array) for key, array in moved.items()}], "w": here(name, moved["float32"][0])}


def averaged(name, rule=RULE, updates=3, **options):
    average = ms.Average(tree(name), rule, backend=name, **options)
    for step in range(updates):
        average.update(tree(name, step))
    return average


def bits(average):
    """All that an average holds, to the bit."""
    state = average.state_dict()
    backend = average._contents.backend
    told = {
        f"{section}/{name}": backend.to_numpy(array)
        for section in ("average", "compensation", "copied")
        for name, array in state.get(section, {}).items()
    }
    numbers = state["count"], np.asarray(state["weight"]).dtype.name, float(state["weight"])
    return numbers, {name: (a.dtype.name, a.shape, a.tobytes()) for name, a in told.items()}


# --- between backends ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("rounding", [None, "stochastic", "compensated"])
@pytest.mark.parametrize("loading", PAIRED)
@pytest.mark.parametrize("saving", PAIRED)
def test_any_backend_loads_any_others_file(path, saving, loading, rounding):
    """Every array, of each dtype that both have, the count and the weight arrive to the bit, and the average is it."""
    for name in (saving, loading):
        pytest.importorskip(name, reason=f"{name}, one of the two backends, is not installed")
    options = {"dtype": None if rounding is None else "bfloat16", "rounding": rounding}
    if rounding is not None:
        options["select"] = {"*complex64": "skip"}
    average, other = averaged(saving, **options), averaged(loading, updates=0, **options)
    ms.save(path, average)
    ms.load(path, other)
    assert bits(other) == bits(average)


def test_every_dtype_is_in_the_file(backend, path):
    """Averages are in the file in the dtype in which they are held, and copies in that of the leaf."""
    if backend == "array_api_strict":
        pytest.skip("array_api_strict has no bfloat16 and float16")
    model = tree(backend)["layers"][0]
    ms.save(path, ms.Average(model, ms.swa(), select={"*16": "copy"}))
    found = {name: (array.dtype.name, array.shape) for name, array in read_arrays(path).items()}
    form = {n: (str(a.dtype).removeprefix("torch."), tuple(a.shape)) for n, a in model.items()}
    copied = {"int32", "int8", "uint8", "bool", "float16", "bfloat16"}
    expected = {f"{'copied' if n in copied else 'average'}/{n}": form[n] for n in model}
    assert found == {"count": ("int64", ()), "weight": ("float64", ()), **expected}


@pytest.mark.parametrize("name", PAIRED)
def test_the_same_average_is_the_same_file(tmp_path, name):
    """What a file is made of is in one order: of each backend it has the bytes that NumPy's has."""
    pytest.importorskip(name, reason=f"{name} is not installed")
    for backend in ("numpy", name):
        ms.save(tmp_path / backend, averaged(backend, ms.swa(), updates=1))
    assert (tmp_path / "numpy").read_bytes() == (tmp_path / name).read_bytes()


def test_a_wrapped_model_gives_the_file_of_the_plain_one(tmp_path, torch):
    """Compiled and wrapped in DataParallel, a module is saved under the names and to the bytes of the plain one."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    made = {
        "plain": model,
        "compiled": torch.compile(model, backend="eager"),
        "parallel": torch.nn.DataParallel(model),
        "both": torch.compile(torch.nn.DataParallel(model), backend="eager"),
    }
    contents = set()
    for name, wrapped in made.items():
        average = ms.Average(wrapped, ms.ema(0.9))
        average.update()
        ms.save(tmp_path / name, average)
        contents.add((tmp_path / name).read_bytes())
    assert len(contents) == 1
    assert {"average/0.weight", "average/1.running_mean", "copied/1.num_batches_tracked"} <= set(
        read_arrays(tmp_path / "both")
    )
    plain = ms.Average(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)), ms.ema(0.9))
    ms.load(tmp_path / "both", plain)
    assert torch.equal(plain.value["0.weight"], model[0].weight)


def test_safetensors_reads_the_file(path):
    """The file is plain safetensors, aligned, with the rule in its metadata: its own library opens it."""
    ms.save(path, averaged("numpy"))
    ours = read_arrays(path)
    with safetensors.safe_open(path, framework="np") as file:
        assert set(file.keys()) == set(ours)
        assert file.metadata()["multisched.rule"] == repr(RULE)
    no_bfloat16 = averaged("numpy", rounding=None, select={"*bfloat16": "skip"})
    ms.save(path, no_bfloat16)
    theirs, ours = safetensors.numpy.load_file(path), read_arrays(path)
    assert {n: (a.dtype, a.shape, a.tobytes()) for n, a in theirs.items()} == {
        n: (a.dtype, a.shape, a.tobytes()) for n, a in ours.items()
    }
    assert all(array.flags.aligned for array in ours.values())


def test_complex128_is_not_in_safetensors(tmp_path):
    """An average in complex128 is refused by name, and the file that was there stays."""
    path = tmp_path / "file"
    ms.save(path, averaged("numpy"))
    before = path.read_bytes()
    average = ms.Average({"z": np.ones(2, np.complex128)}, RULE)
    with pytest.raises(errors.DTypeError, match="average/z has the dtype complex128, which safetensors"):
        ms.save(path, average)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["file"]


def test_files_of_earlier_versions_load(path):
    """A file with checksums of the arrays and none of the header, as was written before, is read, and checked."""
    arrays = {"/a": np.arange(3.0), "/b": np.asarray(True)}
    sums = json.dumps({name: zlib.crc32(array.tobytes()) for name, array in arrays.items()})
    content = safetensors.numpy.save(arrays, metadata={"multisched.crc32": sums})
    path.write_bytes(content)
    assert {name: array.tolist() for name, array in read_arrays(path).items()} == {"/a": [0, 1, 2], "/b": True}
    path.write_bytes(content[:-1] + b"\0")
    with pytest.raises(errors.CheckpointCorrupt, match="checksum of '/b'"):
        read_arrays(path)


# --- what differs ----------------------------------------------------------------------------------------------------
def leaves(**changed):
    made = {"a": np.ones(3, np.float32), "b": np.zeros((2, 2)), "n": np.asarray(3)}
    return {name: leaf for name, leaf in (made | changed).items() if leaf is not None}


DIFFERENCES = {
    "decay": ({}, {"rule": ms.ema(0.5)}, r"rule is ema\(0\.75, debias=True\), and here ema\(0\.5\)"),
    "debias": ({}, {"rule": ms.ema(0.75)}, r"rule is ema\(0\.75, debias=True\), and here ema\(0\.75\)"),
    "law": ({}, {"rule": ms.swa()}, r"and here swa\(\)"),
    "pace": ({}, {"rule": ms.paced(RULE, every=2)}, r"and here paced\(.*every=2\)"),
    "schedule": ({}, {"rule": ms.ema(ms.linear(0.75, 0.5, 9), debias=True)}, r"here ema\(linear\(0\.75, 0\.5, 9\)"),
    "missing": ({"c": np.ones(1)}, {}, "there is no 'c' in its average"),
    "extra": ({"a": None}, {}, "'a' in its average is of no leaf"),
    "renamed": ({"a": None, "A": np.ones(3, np.float32)}, {}, "there is no 'A' .* and 'a' in its average is of no"),
    "kind": ({"n": np.asarray(3.0)}, {}, "there is no 'n' in its average"),
    "shape": ({"b": np.zeros((4,))}, {}, r"average/b has the shape \(2, 2\) there, and \(4,\) here"),
    "axes": ({"a": np.ones((3, 1), np.float32)}, {}, r"average/a has the shape \(3,\) there, and \(3, 1\) here"),
    "dtype": ({"a": np.ones(3, np.complex64)}, {}, "average/a has the dtype float32 there, and complex64 here"),
    "copied": ({"n": np.asarray(3, np.uint32)}, {}, "copied/n has the dtype int64 there, and uint32 here"),
    "select": ({}, {"select": {"a": "copy"}}, "'a' in its average is of no leaf"),
    "stochastic": ({}, {"dtype": "bfloat16", "rounding": "stochastic"}, "rounding is none, and here stochastic"),
    "compensated": ({}, {"dtype": "bfloat16", "rounding": "compensated"}, "rounding is none, and here compensated"),
}


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_what_differs_is_said(path, difference):
    """A file of another rule, rounding, names, shapes or dtypes is refused by what differs, and nothing changes."""
    changed, options, message = DIFFERENCES[difference]
    saved = ms.Average(leaves(), RULE)
    saved.update()
    ms.save(path, saved)
    options = {"rule": RULE, **options}
    average = ms.Average(leaves(**changed), options.pop("rule"), **options)
    average.update(leaves(**changed))
    before = bits(average)
    with pytest.raises(errors.CheckpointMismatch, match=message) as raised:
        ms.load(path, average)
    assert str(path) in str(raised.value)
    assert bits(average) == before


@pytest.mark.parametrize(
    ("one", "other"), [("stochastic", "compensated"), ("compensated", "stochastic"), (None, "stochastic")]
)
def test_the_rounding_is_part_of_the_file(path, one, other):
    """Averages in bfloat16 that are rounded in different ways do not load each other's files."""
    made = [ms.Average({"w": np.ones(3, np.float32)}, RULE, dtype="bfloat16", rounding=each) for each in (one, other)]
    for saving, loading in (made, made[::-1]):
        ms.save(path, saving)
        before = bits(loading)
        with pytest.raises(errors.CheckpointMismatch, match="rounding is"):
            ms.load(path, loading)
        assert bits(loading) == before


def test_a_schedule_of_a_function_is_the_same_in_another_process(path):
    """The address of a function, which is another in each process, is not part of the rule in the file."""
    first, second = (ms.ema(ms.from_function(lambda step: 0.5)) for _ in range(2))
    assert repr(first) != repr(second)
    ms.save(path, ms.Average(leaves(), first))
    average = ms.Average(leaves(a=np.zeros(3, np.float32)), second)
    ms.load(path, average)
    assert average.value["a"].tolist() == [1, 1, 1]


def test_what_is_no_average_is_refused(path):
    """Files of variables and of others, and things that are no average, are told apart from damage."""
    average = ms.Average(leaves(), RULE)
    write_arrays(path, {"/a": np.ones(3)})
    with pytest.raises(errors.CheckpointMismatch, match=r"no average that multisched\.save wrote"):
        ms.load(path, average)
    safetensors.numpy.save_file({"a": np.ones(3)}, path)
    with pytest.raises(errors.CheckpointMismatch, match=r"no average that multisched\.save wrote"):
        ms.load(path, average)
    metadata = {"multisched.rule": repr(RULE), "multisched.rounding": "none"}
    write_arrays(path, {"count/x": np.ones(3)}, metadata)
    with pytest.raises(errors.CheckpointCorrupt, match="'count/x', which no average has"):
        ms.load(path, average)
    write_arrays(path, {"count": np.asarray([1, 2]), "weight": np.asarray(0.0)}, metadata)
    with pytest.raises(errors.CheckpointMismatch, match="count is a number"):
        ms.load(path, average)
    with pytest.raises(FileNotFoundError):
        ms.load(path.with_name("none"), average)
    for wrong in ({"a": 1}, None, "average"):
        with pytest.raises(errors.NotAVariable, match=r"a ms\.Average"):
            ms.save(path, wrong)
        with pytest.raises(errors.NotAVariable, match=r"a ms\.Average"):
            ms.load(path, wrong)


def test_no_file_while_the_model_is_the_average(tmp_path, torch):
    """Inside `swapped` saving and loading are errors that say so, and write nothing."""
    average = ms.Average(torch.nn.Linear(2, 2), RULE)
    path = tmp_path / "file"
    with average.swapped(), pytest.raises(errors.SwapError, match="save it"):
        ms.save(path, average)
    assert os.listdir(tmp_path) == []
    ms.save(path, average)
    with average.swapped(), pytest.raises(errors.SwapError, match="load it"):
        ms.load(path, average)


# --- damage ----------------------------------------------------------------------------------------------------------
def small():
    average = ms.Average({"w": np.asarray([1, 2], np.float32), "e": np.zeros((0, 3), np.float32)}, ms.ema(0.5))
    average.update()
    return average


def taken(path, content, read):
    """Whether a file of this content is taken for whole."""
    path.write_bytes(content)
    try:
        read()
    except errors.CheckpointCorrupt:
        return False
    return True


@pytest.mark.parametrize("flip", [*(1 << bit for bit in range(8)), 0xFF], ids=hex)
def test_every_flipped_byte_is_damage(path, flip):
    """With any byte of a file changed, of the header as of the arrays, it is corrupt, and the average as it was."""
    average = small()
    ms.save(path, average)
    whole, before = path.read_bytes(), bits(average)
    changed = (whole[:i] + bytes([whole[i] ^ flip]) + whole[i + 1 :] for i in range(len(whole)))
    read = (lambda: ms.load(path, average)) if flip == 0xFF else (lambda: read_arrays(path))
    assert [i for i, content in enumerate(changed) if taken(path, content, read)] == []
    assert bits(average) == before
    path.write_bytes(whole)
    ms.load(path, average)


def test_every_cut_and_every_added_byte_is_damage(path):
    """A file cut anywhere, at either end, or with bytes after it, is corrupt."""
    average = small()
    ms.save(path, average)
    whole = path.read_bytes()
    cuts = [*(whole[:i] for i in range(len(whole))), *(whole[i:] for i in range(1, len(whole)))]
    longer = [whole + b"\0", whole + b" " * 8]
    assert not any(taken(path, content, lambda: read_arrays(path)) for content in [*cuts, *longer])


@pytest.fixture(scope="module")
def large_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("damage") / "file"
    average = averaged("numpy")
    ms.save(path, average)
    return path, path.read_bytes(), average


@given(data=st.data())
def test_any_change_of_a_large_file_is_damage(large_file, data):
    """Bytes changed, lost, put in, swapped or repeated anywhere in a file of many leaves are found."""
    path, whole, average = large_file
    header = 8 + int.from_bytes(whole[:8], "little")
    position = st.one_of(st.integers(0, header - 1), st.integers(0, len(whole) - 1))
    at = data.draw(position)
    kind = data.draw(st.sampled_from(("change", "lose", "insert", "swap")))
    if kind == "change":
        byte = bytes([data.draw(st.integers(0, 255))])
        content = whole[:at] + byte + whole[at + 1 :]
    elif kind == "lose":
        content = whole[:at] + whole[at + data.draw(st.integers(1, 64)) :]
    elif kind == "insert":
        content = whole[:at] + data.draw(st.binary(min_size=1, max_size=8)) + whole[at:]
    else:
        content = bytearray(whole)
        other = data.draw(position)
        content[at], content[other] = content[other], content[at]
    assert content == whole or not taken(path, bytes(content), lambda: ms.load(path, average))


# --- writing ---------------------------------------------------------------------------------------------------------
def test_the_file_reaches_the_disk_before_its_name_does(path, monkeypatch):
    """The content is on the disk before the file is renamed, and the folder after: power lost in between loses none."""
    calls, fsync, replace = [], os.fsync, os.replace

    def recorded_fsync(file):
        calls.append("folder" if stat.S_ISDIR(os.fstat(file).st_mode) else "file")
        if calls[-1] == "file":
            assert read_arrays(next(path.parent.glob(".*partial")))["count"] == 1  # nothing waits in a buffer
        fsync(file)

    def recorded_replace(source, target):
        calls.append("replace")
        assert os.path.dirname(source) == os.path.dirname(target)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    ms.save(path, small())
    assert calls == ["file", "replace", *(["folder"] if hasattr(os, "O_DIRECTORY") else [])]


@pytest.mark.skipif(os.name != "posix", reason="links need permissions elsewhere")
@pytest.mark.parametrize("there", [True, False], ids=["to a file", "to nothing yet"])
def test_a_link_is_followed(tmp_path, there):
    """Saving to a link replaces the file that it leads to, in the folder of that file, and the link stays."""
    (tmp_path / "disk").mkdir()
    target, link = tmp_path / "disk" / "file", tmp_path / "latest"
    if there:
        ms.save(target, ms.Average(leaves(), RULE))
    link.symlink_to(target)
    average = small()
    ms.save(link, average)
    assert link.is_symlink()
    assert not target.is_symlink()
    other = small()
    other.update({"w": np.zeros(2, np.float32), "e": np.zeros((0, 3), np.float32)})
    ms.load(target, other)
    assert bits(other) == bits(average)
    assert sorted(os.listdir(tmp_path)) == ["disk", "latest"]
    assert os.listdir(tmp_path / "disk") == ["file"]


FULL = """
import resource, signal, sys
import numpy as np
import multisched as ms
average = ms.Average({"w": np.ones(100_000)}, ms.swa())
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    ms.save(sys.argv[1], average)
except OSError as error:
    print(type(error).__name__, error.errno)
"""


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such limit")
@pytest.mark.parametrize("room", [0, 100_000])
def test_a_full_disk_leaves_the_old_file(tmp_path, room):
    """Where the system takes no more bytes, the error has its number, the old file stays, and nothing beside it."""
    path = tmp_path / "file"
    ms.save(path, small())
    before = path.read_bytes()
    run = subprocess.run(
        [sys.executable, "-c", FULL, str(path), str(room)], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.split() == ["CheckpointFileError", str(errno.EFBIG)]
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("step", ["open", "replace", "to_numpy"])
def test_a_failure_leaves_the_old_file(tmp_path, monkeypatch, step):
    """Where a file may not be made or renamed, or an array not be read, the old file stays, and nothing beside it."""
    path, average = tmp_path / "file", small()
    ms.save(path, average)
    before = path.read_bytes()

    def refuse(*args, **options):
        raise PermissionError(13, "Permission denied")

    where = {"open": "multisched.runtime.files.open", "replace": "os.replace"}
    with monkeypatch.context() as patched:
        if step == "to_numpy":
            patched.setattr(type(average._contents.backend), "to_numpy", refuse)
        else:
            patched.setattr(where[step], refuse, raising=False)
        with pytest.raises(PermissionError):
            ms.save(path, average)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["file"]


def test_threads_that_save_at_once_leave_one_whole_file(tmp_path):
    """Several averages saved to one path at once: the file is one of theirs, whole, at any time; nothing is left."""
    path = tmp_path / "file"
    made = [ms.Average({"w": np.full(50_000, float(i))}, ms.swa()) for i in range(3)]
    ms.save(path, made[0])
    failures, seen = [], ms.Average({"w": np.zeros(50_000)}, ms.swa())

    def run(average):
        try:
            for _ in range(15):
                ms.save(path, average)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(average,)) for average in made]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        ms.load(path, seen)
        assert len(set(seen.value["w"].tolist())) == 1
    assert failures == []
    assert os.listdir(tmp_path) == ["file"]


def test_saving_while_another_thread_updates(backend, tmp_path):
    """Each file has all leaves, the count and what is copied of one moment, whatever a thread does meanwhile."""
    sizes = {"large": 30_000, "small": 3, "other": 5}

    def now(step):
        leaves = {name: here(backend, np.full(size, step, np.float32)) for name, size in sizes.items()}
        return {**leaves, "n": here(backend, np.asarray(step, np.int32))}

    average, stop, failures = ms.Average(now(0), ms.ema(0.0), backend=backend), threading.Event(), []

    def run():
        step = 0
        try:
            while not stop.is_set():
                step += 1
                average.update(now(step))
        except BaseException as error:
            failures.append(error)

    thread, read = threading.Thread(target=run), ms.Average(now(0), ms.ema(0.0), backend=backend)
    thread.start()
    try:
        for _ in range(15):
            ms.save(tmp_path / "file", average)
            ms.load(tmp_path / "file", read)
            adapter = read._contents.backend
            found = {name: np.unique(adapter.to_numpy(leaf)).tolist() for name, leaf in read.value.items()}
            assert found == {name: [read.count] for name in found}
    finally:
        stop.set()
        thread.join()
    assert failures == []


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_saving_holds_one_leaf_at_a_time(path, name):
    """Besides the average, a save has no more than one leaf in memory, and a load no more than the file."""
    pytest.importorskip(name, reason=f"{name} is not installed")
    each, count = 1 << 20, 8
    model = {f"w{i}": np.full(each // 4, i, np.float32) for i in range(count)}
    average = ms.Average({key: here(name, leaf) for key, leaf in model.items()}, ms.swa(), backend=name)
    ms.save(path, average)  # what is imported, and cached, comes once
    tracemalloc.start()
    try:
        ms.save(path, average)
        saving = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        ms.load(path, average)
        loading = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert saving < 1.3 * each
    held = count if name == "numpy" else 1  # torch's own memory is not traced
    assert held * each <= loading < (held + 1.3) * each


def test_the_message_names_the_file_and_the_array(path):
    """Damage in an array is told by the name of its leaf."""
    average = small()
    ms.save(path, average)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(errors.CheckpointCorrupt, match=re.escape(str(path)) + ".*'average/w'"):
        ms.load(path, average)
