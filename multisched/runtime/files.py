"""Arrays in files: safetensors, written atomically and array by array, with checksums of all that is in them.

The format holds no code, so that a file from a stranger is safe to open; any backend reads any other's file.
"""

import errno
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from multisched.errors import CheckpointCorrupt, DTypeError
from multisched.runtime import header

_ABANDONED = 60 * 60
"""Seconds without a byte written after which a temporary file is one that a process left behind when it died."""


class Later(NamedTuple):
    """An array that is brought to the host when its turn comes, so that no two are there at once."""

    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


def write_arrays(
    path: str | os.PathLike[str],
    arrays: Mapping[str, "np.ndarray | Later"],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write arrays by name. The file at `path` is the old one or the new one, whole, whatever happens meanwhile."""
    forms = {name: _form(array) for name, array in arrays.items()}
    for name, (dtype, _) in forms.items():
        if not header.has(dtype):
            raise DTypeError(f"{name}: safetensors has no dtype {dtype}.")
    entries, checksums = header.laid_out(forms), {}
    with _replacing(Path(os.path.realpath(path))) as file:
        file.write(header.written(entries, metadata or {}, None))
        for name in entries:
            data = _bytes(arrays[name])
            checksums[name] = header.checksum(data)
            file.write(data)
            del data  # before the next array is read
        file.seek(0)
        file.write(header.written(entries, metadata or {}, checksums))


def _form(array: "np.ndarray | Later") -> tuple[str, tuple[int, ...]]:
    return array.dtype if isinstance(array, Later) else array.dtype.name, tuple(array.shape)


def _bytes(array: "np.ndarray | Later") -> Any:
    """The bytes of an array as they are in a file, as an array, which shares its memory if it can."""
    array = array.read() if isinstance(array, Later) else array
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)


@contextmanager
def _replacing(target: Path) -> Iterator[BinaryIO]:
    """A new file, which takes the place of `target` at the end of the block, and only then."""
    _clear(target)
    temporary = target.with_name(f".{target.name}.{os.urandom(8).hex()}.partial")
    try:
        with open(temporary, "xb") as file:  # with the permissions of any new file, which tempfile withholds
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _clear(target: Path) -> None:
    """Remove what processes that died while they wrote `target` have left; one that lives has written lately."""
    ours = re.compile(re.escape(f".{target.name}.") + "[0-9a-f]{16}[.]partial")
    with suppress(OSError):  # a folder that cannot be listed may still be written to
        for name in filter(ours.fullmatch, os.listdir(target.parent)):
            left = target.with_name(name)
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > _ABANDONED:
                    left.unlink()


def _sync_folder(folder: Path) -> None:
    """Make the new name of a file last through a loss of power, where folders can be opened."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    except OSError as cause:
        if cause.errno != errno.EINVAL:  # some network file systems cannot, and keep names without it
            raise
    finally:
        os.close(opened)


def read_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays in a file, by name. Raises `CheckpointCorrupt` unless it is whole; no such file is an `OSError`."""
    return read_file(path)[0]


def read_file(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays in a file, and what else its writer said of them; raises as `read_arrays` does.

    The arrays share the memory of the content, which is read once, and cannot be written.
    """
    content = Path(path).read_bytes()
    try:
        head = header.read(content)
        data = memoryview(content)[head.size :]
        arrays = {name: _array(entry, data[entry.start : entry.end]) for name, entry in head.entries.items()}
    except (ValueError, KeyError, TypeError, RecursionError) as cause:
        raise CheckpointCorrupt(f"{os.fspath(path)!r} is no whole safetensors file: {cause}.") from cause
    if head.checksums is not None and set(head.checksums) != set(head.entries):
        names = ", ".join(sorted(map(repr, set(head.checksums) ^ set(head.entries))))
        raise CheckpointCorrupt(f"{os.fspath(path)!r} is damaged: entries and checksums differ in {names}.")
    for name, entry in head.entries.items():
        if head.checksums is not None and head.checksums[name] != header.checksum(data[entry.start : entry.end]):
            raise CheckpointCorrupt(
                f"{os.fspath(path)!r} is damaged: the checksum of {name!r} is not that of its bytes."
            )
    return arrays, head.metadata


def _array(entry: header.Entry, data: memoryview) -> np.ndarray:
    if entry.dtype == "bfloat16":
        import ml_dtypes

        dtype = np.dtype(ml_dtypes.bfloat16)
    else:
        dtype = np.dtype(entry.dtype)
    found = np.ndarray(entry.shape, dtype.newbyteorder("<"), data)
    return found.astype(dtype, copy=not found.flags.aligned)
