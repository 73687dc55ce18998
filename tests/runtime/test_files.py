"""Arrays in files: what is written comes back, the file is whole or not there, and damage is found."""

import json
import os
import re
import stat
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from multisched.errors import CheckpointCorrupt, DTypeError
from multisched.runtime.files import read_arrays, write_arrays

DTYPES = [
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "bfloat16", "float32", "float64", "complex64"),
]


def special(dtype):
    """Six values that are easily lost: the ends of the range, signed zeros, NaN, infinities, the least numbers."""
    dtype = np.dtype(getattr(ml_dtypes, dtype, dtype))
    if dtype.kind == "b":
        values = [True, False] * 3
    elif dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = np.array([limits.min, limits.max, 0, 1, 2, 3], dtype)
    else:
        values = [-0.0, 0.0, np.nan, -np.inf, np.inf, 1 / 3]
    return np.asarray(values).astype(dtype).reshape(2, 3)


SHAPED = {
    "scalar": np.asarray(1.5, np.float32),
    "empty": np.zeros((0, 3), np.int8),
    "empty at the end": np.zeros((3, 0)),
    "five axes": np.arange(120).reshape(1, 2, 3, 4, 5),
    "transposed": np.arange(6.0).reshape(2, 3).T,
    "reversed": np.arange(6.0)[::-1],
    "strided": np.arange(12)[::3],
    "broadcast": np.broadcast_to(np.float32(2), (3, 4)),
    "read-only": np.frombuffer(b"\1\2\3\4", np.uint8),
}


def same(found, expected):
    """The same dtype, shape and bytes."""
    return (found.dtype.name, found.shape, found.tobytes()) == (expected.dtype.name, expected.shape, expected.tobytes())


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back_to_the_bit(tmp_path, dtype):
    """Arrays of each dtype of the array API but complex128, and bfloat16, are read as they were written."""
    path = tmp_path / "file"
    write_arrays(path, {"/a": special(dtype)})
    assert same(read_arrays(path)["/a"], special(dtype))


@pytest.mark.parametrize("array", SHAPED.values(), ids=SHAPED)
def test_every_layout_comes_back(tmp_path, array):
    """Shapes without elements or axes, and arrays that are not contiguous, are read with their shape and values."""
    path = tmp_path / "file"
    write_arrays(path, {"/a": array})
    assert same(read_arrays(path)["/a"], array)


@pytest.mark.parametrize("dtype", [">f4", ">i8", ">c8", ">u2"])
def test_byte_order_is_of_no_concern(tmp_path, dtype):
    """Arrays in the other byte order come back with their values, in the order of this machine."""
    path, array = tmp_path / "file", np.asarray([1, 2, 300], dtype)
    write_arrays(path, {"/a": array})
    found = read_arrays(path)["/a"]
    assert found.dtype.isnative
    assert found.tolist() == [1, 2, 300]


@pytest.mark.parametrize("dtype", ["complex128", "U1", "datetime64[D]", "O"])
def test_what_the_format_lacks_is_an_error(tmp_path, dtype):
    """A dtype that safetensors does not have is named, with its entry, and no file appears."""
    with pytest.raises(DTypeError, match="/odd.*" + re.escape(np.dtype(dtype).name)):
        write_arrays(tmp_path / "file", {"/a": special("int8"), "/odd": np.zeros(2, dtype)})
    assert os.listdir(tmp_path) == []


def test_names_are_any_text(tmp_path):
    """Names with quotes, spaces and letters of any alphabet come back; so does a file of no arrays."""
    path, arrays = tmp_path / "file", {name: special("int8") for name in ('/a "b"/w', "/Größe", "/重み", "")}
    write_arrays(path, arrays)
    assert set(read_arrays(path)) == set(arrays)
    write_arrays(path, {})
    assert read_arrays(path) == {}


def test_others_read_our_files_and_we_read_theirs(tmp_path):
    """The file is plain safetensors: its own library reads it, and files that it wrote, without checksums, are read."""
    path, arrays = tmp_path / "file", {dtype: special(dtype) for dtype in ("int32", "float32", "float64")}
    write_arrays(path, arrays)
    theirs = safetensors.numpy.load_file(path)
    assert all(same(theirs[name], array) for name, array in arrays.items())
    safetensors.numpy.save_file(arrays, path, metadata={"format": "pt"})
    ours = read_arrays(path)
    assert all(same(ours[name], array) for name, array in arrays.items())


# --- whole or not at all ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("at", ["replace", "fsync"])
@pytest.mark.parametrize("old", [True, False], ids=["over a file", "anew"])
def test_a_failed_write_leaves_the_folder_as_it_was(tmp_path, monkeypatch, at, error, old):
    """Where the disk is full, or the user interrupts, the old file stays, and nothing else is left behind."""
    path = tmp_path / "file"
    if old:
        write_arrays(path, {"/a": special("int8")})
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}

    def fail(*args):
        raise error

    monkeypatch.setattr(os, at, fail)
    with pytest.raises(type(error)):
        write_arrays(path, {"/a": special("float64"), "/b": special("int8")})
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before


KILLED = """
import os, sys
import numpy as np
from multisched.runtime.files import write_arrays
os.fsync = lambda file: os._exit(9)
write_arrays(sys.argv[1], {"/a": np.zeros(1000)})
"""


def test_a_process_that_dies_while_writing_leaves_the_old_file(tmp_path):
    """A save that ends with the process, as by a kill signal, has not touched the file that was there."""
    path = tmp_path / "file"
    write_arrays(path, {"/a": special("int8")})
    assert subprocess.run([sys.executable, "-c", KILLED, path], check=False).returncode == 9
    assert same(read_arrays(path)["/a"], special("int8"))


def test_no_folder_no_file(tmp_path):
    """Where the folder is missing, or is a file, the `OSError` is the system's own."""
    with pytest.raises(FileNotFoundError):
        write_arrays(tmp_path / "no" / "file", {"/a": special("int8")})
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "file")
    with pytest.raises(IsADirectoryError):
        write_arrays(tmp_path, {"/a": special("int8")})
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="other systems have no permissions of this kind")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_the_file_may_be_read_by_whom_the_user_lets(tmp_path, umask):
    """The permissions of the file are those of any new file, under the user's umask."""
    before = os.umask(umask)
    try:
        write_arrays(tmp_path / "ours", {"/a": special("int8")})
        (tmp_path / "any").write_bytes(b"")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "any")]
    assert modes[0] == modes[1]


# --- damage ----------------------------------------------------------------------------------------------------------
def test_a_file_cut_anywhere_is_corrupt(tmp_path):
    """Of a file cut short, whatever is left of it, nothing is read."""
    path = tmp_path / "file"
    write_arrays(path, {"/a": special("float32"), "/b": special("bool"), "/c": np.zeros((2, 0))})
    whole, taken = path.read_bytes(), []
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        try:
            read_arrays(path)
            taken.append(length)
        except CheckpointCorrupt:
            continue
    assert taken == []


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_is_found(tmp_path, bit):
    """With any one bit of the file flipped, it is corrupt, or an entry has another name or form, or nothing changed."""
    path, arrays = tmp_path / "file", {"/a": special("float32"), "/b": special("int16")}
    write_arrays(path, arrays)
    whole, wrong = path.read_bytes(), []
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ (1 << bit)]) + whole[i + 1 :])
        try:
            found = read_arrays(path)
        except CheckpointCorrupt:
            continue
        form = {name: (a.dtype.name, a.shape) for name, a in found.items()}
        if form == {name: (a.dtype.name, a.shape) for name, a in arrays.items()}:
            wrong += [i for name, a in arrays.items() if not same(found[name], a)]
    assert wrong == []


def file_of(header, data=b""):
    """The bytes of a safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


ENTRY = {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}

FOREIGN = {
    "nothing": b"",
    "text": b"step: 3\n",
    "zeros": bytes(100),
    "a pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01s.",
    "a header longer than the file": (1 << 20).to_bytes(8, "little") + b"{}",
    "a header longer than memory": (1 << 62).to_bytes(8, "little") + b"{}",
    "a header that is a list": file_of([]),
    "a header that is no text": file_of(b"\xff\xfe\xfd"),
    "offsets beyond the end": file_of({"/a": {**ENTRY, "data_offsets": [0, 9]}}, b"ab"),
    "offsets backwards": file_of({"/a": {**ENTRY, "data_offsets": [2, 0]}}, b"ab"),
    "a negative shape": file_of({"/a": {**ENTRY, "shape": [-2]}}, b"ab"),
    "a shape too large": file_of({"/a": {**ENTRY, "shape": [2**40, 2**40]}}, b"ab"),
    "bytes that no entry owns": file_of({"/a": ENTRY}, b"abcd"),
    "checksums that are a number": file_of({"__metadata__": {"multisched.crc32": "5"}, "/a": ENTRY}, b"ab"),
    "checksums that are null": file_of({"__metadata__": {"multisched.crc32": "null"}, "/a": ENTRY}, b"ab"),
    "checksums that are a list": file_of({"__metadata__": {"multisched.crc32": '["/a"]'}, "/a": ENTRY}, b"ab"),
    "checksums that are cut": file_of({"__metadata__": {"multisched.crc32": '{"/a": '}, "/a": ENTRY}, b"ab"),
    "checksums nested deep": file_of({"__metadata__": {"multisched.crc32": "[" * 10**5}, "/a": ENTRY}, b"ab"),
    "a checksum of an entry that is gone": file_of(
        {"__metadata__": {"multisched.crc32": '{"/a": 2659403885, "/b": 0}'}, "/a": ENTRY}, b"ab"
    ),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_what_is_no_checkpoint_is_corrupt(tmp_path, content):
    """Other files, and files made to confuse, are named in a `CheckpointCorrupt`, a `ValueError`, and nothing else."""
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(CheckpointCorrupt, match="file") as raised:
        read_arrays(path)
    assert isinstance(raised.value, ValueError)
    assert str(path) in str(raised.value)


def test_a_dtype_of_tomorrow_is_named(tmp_path):
    """A whole file with a dtype that NumPy lacks is refused with the entry and the dtype in the message."""
    path = tmp_path / "file"
    path.write_bytes(file_of({"/a": {**ENTRY, "dtype": "F8_E4M3"}}, b"ab"))
    with pytest.raises(CheckpointCorrupt, match=r"/a.*F8_E4M3"):
        read_arrays(path)
