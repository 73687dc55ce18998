"""Files from strangers: read right or refused in words, for memory and reading in proportion to what is asked for."""

import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

import multisched as ms
from multisched import errors
from multisched.runtime import files
from multisched.runtime.files import opened, read_arrays, write_arrays

LONGEST_MESSAGE = 2000
FIXED = 5_000_000
"""Bytes that any load may take: imports, tracebacks, caches."""


def file_of(header, data=b""):
    """The bytes of a safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def average():
    return ms.Average({"w": np.ones(2)}, ms.ema(0.9))


def refused(path, error=errors.CheckpointCorrupt):
    """What loading costs in bytes that are traced; it must be refused, shortly, and change nothing."""
    held = average()
    tracemalloc.start()
    try:
        with pytest.raises(error) as raised:
            ms.load(path, held)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert type(raised.value).__module__ == "multisched.errors"
    assert len(str(raised.value)) < LONGEST_MESSAGE
    assert held.count == 0
    assert held.value["w"].tolist() == [1, 1]
    return peak


ENTRY = {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}
LARGE = 1 << 19


def long_text(begin, middle, end, length=LARGE):
    return begin + middle * (length // len(middle)) + end


HOSTILE = {
    "shapes of long numbers": b'{"x":{"dtype":"F32","shape":[%s],"data_offsets":[0,0]}}'
    % b",".join([b"9" * 4000] * 500),
    "shapes of many axes": b'{"x":{"dtype":"F32","shape":[%s],"data_offsets":[0,0]}}' % b",".join([b"9" * 18] * 10**5),
    "an axis of 20 digits": b'{"x":{"dtype":"F32","shape":[%s],"data_offsets":[0,0]}}' % (b"9" * 20),
    "no elements, and more than a shape can have": json.dumps(
        {"x": {"dtype": "F32", "shape": [0, 2**40, 2**40], "data_offsets": [0, 0]}}
    ).encode(),
    "a number of a million digits": b'{"x":%s}' % (b"9" * 10**6),
    "lists nested deep": b"[" * LARGE,
    "tables nested deep": b'{"a":' * (LARGE // 5),
    "many empty lists": long_text(b'{"a":[', b"[],", b"[]]}"),
    "many entries that are none": b"{%s}" % b",".join(b'"%d":{}' % i for i in range(10**5)),
    "one name, very long, that is no array": b'{"%s":{}}' % (b"n" * LARGE),
    "a dtype that is very long": b'{"a":{"dtype":"%s","shape":[2],"data_offsets":[0,2]}}' % (b"F" * LARGE),
    "a dtype that is a list": json.dumps({"a": {**ENTRY, "dtype": [["F32"]]}}).encode(),
    "only blanks": b" " * LARGE,
    "NaN as an offset": b'{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,NaN]}}',
    "Infinity in a shape": b'{"a":{"dtype":"U8","shape":[Infinity],"data_offsets":[0,2]}}',
    "a fraction in a shape": b'{"a":{"dtype":"U8","shape":[2.0],"data_offsets":[0,2]}}',
    "an exponent that is large": b'{"a":{"dtype":"U8","shape":[1e400],"data_offsets":[0,2]}}',
    "a bool in a shape": b'{"a":{"dtype":"U8","shape":[true,2],"data_offsets":[0,2]}}',
    "a name twice": b'{"a":%s,"a":%s}' % ((json.dumps(ENTRY).encode(),) * 2),
    "a field twice": b'{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2],"dtype":"U8"}}',
    "UTF-16": json.dumps({"a": ENTRY}).encode("utf-16"),
    "a mark of UTF-8": b"\xef\xbb\xbf" + json.dumps({"a": ENTRY}).encode(),
    "bytes that are no UTF-8": b'{"\xff":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}',
    "null characters": b'{"a\0":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}',
    "metadata of numbers": json.dumps({"__metadata__": {"a": 1}, "a": ENTRY}).encode(),
    "metadata of tables": json.dumps({"__metadata__": {"a": {}}, "a": ENTRY}).encode(),
    "metadata that is a list": json.dumps({"__metadata__": [], "a": ENTRY}).encode(),
    "metadata that is null": json.dumps({"__metadata__": None, "a": ENTRY}).encode(),
    "checksums without that of the header": json.dumps(
        {"__metadata__": {"multisched.checksums": "{}"}, "a": ENTRY}
    ).encode(),
    "checksums nested deep": json.dumps(
        {"__metadata__": {"multisched.checksums": "[" * LARGE, "multisched.header": "0"}, "a": ENTRY}
    ).encode(),
    "arrays that overlap": json.dumps({"a": ENTRY, "b": {**ENTRY, "data_offsets": [1, 3]}}).encode(),
    "arrays with a hole": json.dumps({"a": {**ENTRY, "data_offsets": [1, 3]}}).encode(),
    "offsets beyond the end": json.dumps({"a": {**ENTRY, "shape": [2**62], "data_offsets": [0, 2**62]}}).encode(),
    "negative offsets": json.dumps({"a": {**ENTRY, "data_offsets": [-2, 0]}}).encode(),
    "three offsets": json.dumps({"a": {**ENTRY, "data_offsets": [0, 1, 2]}}).encode(),
}


@pytest.mark.parametrize("header", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_header_is_refused(tmp_path, header):
    """In a short message, for memory in proportion to the file: Python's objects for JSON are 30 times as large."""
    path = tmp_path / "file"
    path.write_bytes(file_of(header, b"ab"))
    assert refused(path) < FIXED + 60 * len(header)


@pytest.mark.parametrize("size", [0, 1, 2, 1 << 20, 10**8 + 1, 2**40, 2**62, 2**63, 2**64 - 1])
def test_a_header_of_any_length_in_a_sparse_file(tmp_path, size):
    """A file of a terabyte without content, which no disk has to hold, costs what its header does, at most 100 MB."""
    path = tmp_path / "file"
    path.write_bytes(size.to_bytes(8, "little"))
    os.truncate(path, 2**40)
    assert refused(path) < FIXED + (10 * size if size <= 10**8 else 0)


def test_a_sparse_array_of_a_terabyte(tmp_path):
    """An array that is not as the average's is refused before its bytes are read, or memory for them is asked for."""
    path, size = tmp_path / "file", 2**40
    numbers = {name: {"dtype": code, "shape": []} for name, code in {"weight": "F64", "count": "I64"}.items()}
    numbers["weight"]["data_offsets"], numbers["count"]["data_offsets"] = [size, size + 8], [size + 8, size + 16]
    metadata = {"multisched.rule": "ema(0.9)", "multisched.rounding": "none"}
    for name in ("average/w", "average/v", "count"):
        large = {"dtype": "F64", "shape": [size // 8], "data_offsets": [0, size]}
        entries = {**numbers, name: large}
        if name == "count":
            entries = {"count": large, "weight": numbers["weight"]}
        header = file_of({"__metadata__": metadata, **entries})
        path.write_bytes(header)
        os.truncate(path, len(header) + size + (8 if name == "count" else 16))
        assert refused(path, errors.CheckpointMismatch) < FIXED


def test_variables_read_what_they_need(tmp_path):
    """Entries that no variable has are not read: those of other names, however large, cost nothing."""
    path, size = tmp_path / "file", 2**40
    variable = ms.Variable([1.0, 2.0], name="w", dtype="float64")
    entries = {
        "/w": {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]},
        "/large": {"dtype": "F64", "shape": [size // 8], "data_offsets": [16, size + 16]},
    }
    header = file_of(entries, np.asarray([3.0, 4.0]).tobytes())
    path.write_bytes(header)
    os.truncate(path, len(header) + size)
    tracemalloc.start()
    try:
        ms.load_variables(path, "w")
        with pytest.raises(errors.CheckpointMismatch, match="'/large'"):
            ms.load_variables(path)
        assert tracemalloc.get_traced_memory()[1] < FIXED
    finally:
        tracemalloc.stop()
    assert variable.value.tolist() == [3, 4]


def test_many_names_make_a_short_message(tmp_path):
    """A file of many long names that the average lacks is refused with some of them."""
    path = tmp_path / "file"
    arrays = {f"average/{i}{'n' * 1000}": np.zeros(1) for i in range(100)}
    metadata = {"multisched.rule": "ema(0.9)", "multisched.rounding": "none"}
    write_arrays(path, {**arrays, "count": np.asarray(1), "weight": np.asarray(1.0)}, metadata)
    refused(path, errors.CheckpointMismatch)
    write_arrays(path, {"n" * 10**5: np.asarray(1)}, metadata)
    refused(path, errors.CheckpointError)
    write_arrays(path, {"count": np.asarray(1)}, {"multisched.rule": "r" * 10**5})
    refused(path, errors.CheckpointMismatch)


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
    """A file that another program cuts after it was opened is corrupt; one that is replaced is read as it was."""
    path = tmp_path / "file"
    write_arrays(path, {"a": np.arange(10_000.0)})
    with opened(path) as stored:
        os.replace(path, path.with_name("old"))
        write_arrays(path, {"a": np.zeros(3)})
        assert stored.later("a").read().tolist() == list(range(10_000))
        os.truncate(path.with_name("old"), 10_000)
        with pytest.raises(errors.CheckpointCorrupt, match="shorter"):
            stored.later("a").read()


# --- files that other programs wrote again ---------------------------------------------------------------------------
ARRAYS = {"ö": np.arange(3.0), "b": np.asarray(True), "c": np.asarray([1, 2], np.int16), 'd"\\\n': np.float32(1.5)}
ARRAYS |= {"e": np.arange(4, dtype=np.uint64), "f": np.zeros((0, 2), np.float32), "g": np.arange(5.0)}


def again(path, **changed):
    """Save a file again by the library of safetensors, with the metadata that it had, in an order of its own."""
    with safetensors.safe_open(path, framework="np") as file:
        metadata = file.metadata()
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    safetensors.numpy.save_file({**arrays, **changed}, path, metadata=metadata)


def test_a_file_saved_again_by_safetensors_is_whole(tmp_path):
    """The library orders arrays and metadata anew and pads otherwise; nothing is lost, and damage is still found."""
    path = tmp_path / "file"
    write_arrays(path, ARRAYS, {"b": "1", "a": "2", "ä": "3"})
    ours = path.read_bytes()
    again(path)
    theirs = path.read_bytes()
    assert theirs != ours
    found, metadata = files.read_file(path)
    assert {n: (a.dtype, a.tolist()) for n, a in found.items()} == {n: (a.dtype, a.tolist()) for n, a in ARRAYS.items()}
    assert metadata == {"b": "1", "a": "2", "ä": "3"}
    with path.open("r+b", buffering=0) as file:  # in place: a disk may wait for each file that is written anew

        def put(i, value):
            file.seek(i)
            file.write(bytes([value]))

        for i, value in enumerate(theirs):
            put(i, value ^ 1)
            with pytest.raises(errors.CheckpointCorrupt):
                read_arrays(path)
            put(i, value)
    assert path.read_bytes() == theirs
    path.write_bytes(ours)
    again(path, b=np.asarray(False))
    with pytest.raises(errors.CheckpointCorrupt, match="checksum of 'b'"):
        read_arrays(path)
    path.write_bytes(ours)
    again(path, more=np.ones(1))
    with pytest.raises(errors.CheckpointCorrupt, match="'more'"):
        read_arrays(path)


def test_an_average_saved_again_by_safetensors_loads(tmp_path):
    """With the metadata that it had it loads as before; without, nobody knows its rule, and the error says so."""
    path, held = tmp_path / "file", ms.Average({"w": np.asarray([1.0, 2.0]), "n": np.asarray(3)}, ms.ema(0.9))
    held.update()
    ms.save(path, held)
    again(path)
    other = ms.Average({"w": np.zeros(2), "n": np.asarray(0)}, ms.ema(0.9))
    ms.load(path, other)
    assert (other.count, other.value["w"].tolist(), other.value["n"].tolist()) == (1, [1, 2], 3)
    safetensors.numpy.save_file(safetensors.numpy.load_file(path), path)
    other.update({"w": np.zeros(2), "n": np.asarray(0)})
    for whose in ("same", "theirs"):
        with pytest.raises(errors.CheckpointMismatch, match=r'lost its rule.*rule="mine"'):
            ms.load(path, other, rule=whose)
    ms.load(path, other, rule="mine")
    assert (other.count, other.value["w"].tolist(), other.value["n"].tolist()) == (1, [1, 2], 3)
    safetensors.numpy.save_file(safetensors.numpy.load_file(path), path, metadata={"format": "pt"})
    ms.load(path, other, rule="mine")
    safetensors.numpy.save_file({"w": np.ones(2)}, path)
    with pytest.raises(errors.CheckpointError, match="'w'"):
        ms.load(path, other, rule="mine")


OLD = sorted((Path(__file__).parents[1] / "old" / "0.1" / "averages").glob("numpy-*.safetensors"))


@pytest.mark.parametrize("old", OLD, ids=lambda path: path.stem)
def test_a_file_of_an_earlier_version_saved_again(tmp_path, old):
    """What 0.1 wrote is whole, too, after the library of safetensors has written it in its own order."""
    path = tmp_path / "file"
    path.write_bytes(old.read_bytes())
    if b'"BF16"' in old.read_bytes():
        pytest.skip("the library gives NumPy no bfloat16")
    again(path)
    expected, found = files.read_file(old), files.read_file(path)
    assert found[1] == expected[1]
    assert {n: a.tolist() for n, a in found[0].items()} == {n: a.tolist() for n, a in expected[0].items()}


def test_names_that_the_format_keeps(tmp_path):
    """An array of the name of the metadata is refused before anything is written."""
    with pytest.raises(errors.CheckpointError, match="__metadata__"):
        write_arrays(tmp_path / "file", {"__metadata__": np.ones(1)})
    assert os.listdir(tmp_path) == []


# --- any mutation ----------------------------------------------------------------------------------------------------
@st.composite
def mutated(draw, whole):
    """A file with bytes, numbers or parts of its header changed, and its length made to fit, or not."""
    size = 8 + int.from_bytes(whole[:8], "little")
    text, data = bytearray(whole[8:size]), bytearray(whole[size:])
    for _ in range(draw(st.integers(1, 4))):
        target = text if draw(st.integers(0, 3)) else data
        at, length = draw(st.integers(0, len(target))), draw(st.integers(0, 12))
        new = draw(
            st.one_of(
                st.binary(max_size=8),
                st.sampled_from(
                    [b"", b"-1", b"9" * 30, b"null", b"[]", b"{}", b'"', b"1e9", b"NaN", b"\0", b"[" * 3000]
                ),
                st.integers(-(2**65), 2**65).map(lambda number: b"%d" % number),
                st.just(bytes(text[at : at + 200])),
            )
        )
        target[at : at + length] = new
    declared = draw(st.one_of(st.just(len(text)), st.integers(0, 2**64 - 1), st.integers(0, len(text) + 9)))
    return declared.to_bytes(8, "little") + bytes(text) + bytes(data)


@pytest.fixture(scope="module", params=["ours", "theirs", "plain"])
def valid(request, tmp_path_factory):
    """A file of ours, one that safetensors wrote again, and one without checksums."""
    path, held = tmp_path_factory.mktemp("fuzz") / "file", average()
    held.update()
    ms.save(path, held)
    if request.param == "theirs":
        again(path)
    if request.param == "plain":
        safetensors.numpy.save_file(safetensors.numpy.load_file(path), path, {"multisched.rule": "ema(0.9)"})
    return path, path.read_bytes()


@given(data=st.data())
def test_any_mutation_is_refused_or_loads_right(valid, data):
    """What is not refused, in a short message, by a class of this library, has the arrays that were written."""
    path, whole = valid
    content = data.draw(mutated(whole))
    path.write_bytes(content)
    tracemalloc.start()
    message = ""
    try:
        found = read_arrays(path)
        assert b"checksums" not in whole or found["average/w"].tolist() == [1, 1]
    except errors.CheckpointError as error:
        message = str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        path.write_bytes(whole)
    assert len(message) < LONGEST_MESSAGE
    assert peak < FIXED + 60 * len(content)


# --- any entries -----------------------------------------------------------------------------------------------------
CODES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I8": 1, "U64": 8, "U8": 1, "BOOL": 1, "C64": 8}
VALUES = [b"\0" * 8, b"\xff" * 8, np.float64(np.nan).tobytes(), np.float64(-np.inf).tobytes(), np.int64(1).tobytes()]
RIGHT = {"count": ("I64", []), "weight": ("F64", []), "average/w": ("F64", [2]), "copied/n": ("I64", [])}


@st.composite
def entries(draw):
    """A whole file of any entries, of the names that an average has or of others."""
    names = (*RIGHT, "compensation/w", "average/", "/", "copied/w", "shard")
    chosen = draw(st.one_of(st.just(list(RIGHT)), st.lists(st.sampled_from(names), unique=True)))
    header, data = {"__metadata__": {"multisched.rule": "ema(0.9)", "multisched.rounding": "none"}}, b""
    for name in chosen:
        code, shape = RIGHT.get(name, ("F64", []))
        if draw(st.integers(0, 5)) == 0:
            code = draw(st.sampled_from(sorted(CODES)))
        if draw(st.integers(0, 9)) == 0:
            shape = draw(st.sampled_from([[], [2], [0], [1], [1, 2]]))
        size = CODES[code] * int(np.prod(shape, dtype=int))
        header[name] = {"dtype": code, "shape": shape, "data_offsets": [len(data), len(data) + size]}
        data += (draw(st.sampled_from(VALUES)) * 2)[:size]
    return file_of(header, data)


@given(content=entries())
def test_any_entries_load_or_are_refused(content, tmp_path_factory):
    """What has the form of an average is taken; all else is refused, and the average is as it was."""
    path = tmp_path_factory.mktemp("entries") / "file"
    path.write_bytes(content)
    held = ms.Average({"w": np.ones(2), "n": np.asarray(3)}, ms.ema(0.9))
    held.update()
    try:
        ms.load(path, held)
        assert 0 <= held.count < 2**31
    except errors.CheckpointError:
        assert held.count == 1
        assert (held.value["w"].tolist(), held.value["n"].tolist()) == ([1, 1], 3)
    assert (held.value["w"].dtype, held.value["w"].shape, held.value["n"].shape) == (np.float64, (2,), ())
    held.update()
