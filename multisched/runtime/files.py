"""Arrays in safetensors files, which are written atomically, one array after another, with checksums.

The format contains no code, so an untrusted file is safe to open. Any backend reads the files of any other. The time
and memory to read a file are in proportion to its size and to what the caller asks for.
"""

import errno
import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from multisched.errors import CheckpointCorrupt, CheckpointDenied, CheckpointError, DTypeError, named
from multisched.runtime import header
from multisched.runtime.paths import check_regular, shown_path, telling, text_of

_ABANDONED = 60 * 60
"""A temporary file that has not been written for this many seconds was left behind by a process that died."""

PathLike = str | bytes | os.PathLike[str] | os.PathLike[bytes]


class Later(NamedTuple):
    """An array that is brought to the host when it is read, so that only one is there at a time."""

    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


# --- writing ---------------------------------------------------------------------------------------------------------
def write_arrays(
    path: PathLike, arrays: Mapping[str, "np.ndarray | Later"], metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays by name. Whatever happens, the file at `path` is either the old one or the new one, and whole.

    Raises `DTypeError` for a dtype that the format lacks and `CheckpointError` for what cannot be written, before the
    file is touched. Raises `CheckpointFileError` if the system refuses.
    """
    path = text_of(path)
    forms = {name: _form(array) for name, array in arrays.items()}
    for name, (dtype, _) in forms.items():
        if not header.has(dtype):
            raise DTypeError(f"{name} has the dtype {dtype}, which safetensors files cannot hold.")
    metadata = dict(sorted((metadata or {}).items()))
    entries, checksums = header.laid_out(forms), dict[str, str]()
    try:
        begin = header.written(entries, metadata, None)
    except ValueError as cause:
        raise CheckpointError(f"Cannot save to {shown_path(path)}: {cause}.") from cause
    with telling("save to", path), _replacing(path) as file:
        file.write(begin)
        for name in entries:
            data = _bytes(arrays[name])
            checksums[name] = header.checksum(data)
            file.write(data)
            del data  # before the next array is read
        file.seek(0)
        file.write(header.written(entries, metadata, checksums))


def _form(array: "np.ndarray | Later") -> tuple[str, tuple[int, ...]]:
    return array.dtype if isinstance(array, Later) else array.dtype.name, tuple(array.shape)


def _bytes(array: "np.ndarray | Later") -> Any:
    """The bytes of an array as a file holds them, in an array of bytes that shares memory if possible."""
    array = array.read() if isinstance(array, Later) else array
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)


@contextmanager
def _replacing(path: str) -> Iterator[BinaryIO]:
    """A temporary file that replaces the file at `path` at the end of the block.

    It gets the mode and the owner of the file that it replaces, or those of any new file. Links are followed.
    """
    old = _replaceable(path)
    target = Path(os.path.realpath(path))
    _clear(target)
    temporary = target.with_name(f"{_prefix(target)}{os.urandom(8).hex()}.partial")
    mode = (
        0o666 if old is None else stat.S_IMODE(old.st_mode) & 0o700
    )  # nobody else may read it until it has the old mode
    try:
        with open(temporary, "xb", opener=partial(os.open, mode=mode)) as file:
            if old is not None:
                _make_alike(file.fileno(), old)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(target.parent)


def _replaceable(path: str) -> os.stat_result | None:
    """The status of the regular file to be replaced, or None if there is none. Anything else there is an error."""
    try:
        old = os.stat(path)
    except FileNotFoundError:
        return None
    check_regular(old, "save to", path)
    effective = os.access in os.supports_effective_ids
    if not os.access(path, os.W_OK, effective_ids=effective):  # renaming would not ask, but the user wants to keep it
        message = f"Cannot save to {shown_path(path)}: the file is read-only. Remove it, or make it writable."
        raise CheckpointDenied(message, errno.EACCES, path)
    return old


def _make_alike(file: int, old: os.stat_result) -> None:
    """Give an open file the owner and the mode of an old one, as far as the system permits."""
    if not hasattr(os, "fchown"):  # Windows
        return
    mode, new = stat.S_IMODE(old.st_mode) & 0o777, os.fstat(file)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        try:
            os.fchown(file, old.st_uid, old.st_gid)
        except OSError:  # another user's file: the group changes, so it may do no more than everybody
            mode = mode & 0o707 | (mode & 0o007) << 3
    with suppress(OSError):  # some file systems have no modes
        os.fchmod(file, mode)


def _prefix(target: Path) -> str:
    """The beginning of the names of temporary files for a target, short enough for any file system."""
    name = target.name
    if len(os.fsencode(name)) > 100:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return f".{name}."


def _clear(target: Path) -> None:
    """Remove temporary files that dead processes left behind; a live one has written to its file recently."""
    ours = re.compile(re.escape(_prefix(target)) + "[0-9a-f]{16}[.]partial")
    with suppress(OSError):  # a folder that cannot be listed may still be written to
        for name in filter(ours.fullmatch, os.listdir(target.parent)):
            left = target.with_name(name)
            with suppress(OSError):
                found = left.lstat()
                if stat.S_ISREG(found.st_mode) and time.time() - found.st_mtime > _ABANDONED:
                    left.unlink()


def _sync_folder(folder: Path) -> None:
    """Make sure that a renamed file survives a loss of power, on systems where folders can be opened."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:  # a folder that may be written but not read
        return
    try:
        os.fsync(opened)
    except OSError as cause:
        if cause.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems do not need it
            raise
    finally:
        os.close(opened)


# --- reading ---------------------------------------------------------------------------------------------------------
class Stored:
    """The arrays of an open file: their dtypes and shapes at once, their values on demand."""

    def __init__(self, path: str, file: BinaryIO):
        self._path, self._file = path, file
        length = os.fstat(file.fileno()).st_size
        try:
            first = file.read(8)
            self._header = header.read(first + file.read(header.size_of(first, length) - 8), length)
        except (ValueError, KeyError, TypeError, RecursionError) as cause:
            raise self._damaged("is not a whole safetensors file", str(cause)[:500]) from cause
        self.metadata: dict[str, str] = self._header.metadata

    def __iter__(self) -> Iterator[str]:
        return iter(self._header.entries)

    def later(self, name: str) -> Later:
        """An array that can be read from the file while it is open."""
        entry = self._header.entries[name]
        return Later(entry.dtype, entry.shape, partial(self._read, name))

    def _read(self, name: str) -> np.ndarray:
        """Read an array, and check that its bytes are those that were written."""
        entry = self._header.entries[name]
        with telling("load", self._path):
            data = np.empty(entry.end - entry.start, np.uint8)
            self._file.seek(self._header.size + entry.start)
            if self._file.readinto(data) != len(data):  # type: ignore[attr-defined]  # `open` has it
                raise self._damaged("is damaged", "it became shorter while it was read")
        checksums = self._header.checksums
        if checksums is not None and checksums[name] != header.checksum(data):
            raise self._damaged("is damaged", f"the checksum of {named(name)} does not match its bytes")
        dtype = _dtype(entry.dtype)
        found: np.ndarray = data.view(dtype.newbyteorder("<")).reshape(entry.shape).astype(dtype, copy=False)
        return found

    def _damaged(self, what: str, why: str) -> CheckpointCorrupt:
        return CheckpointCorrupt(f"{shown_path(self._path)} {what}: {why}.")


def _dtype(name: str) -> Any:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


@contextmanager
def opened(path: PathLike) -> Iterator[Stored]:
    """The arrays of a file, which can be read inside the block.

    They are all of one version of the file, even if it is replaced meanwhile. Raises `CheckpointCorrupt` unless the
    file is whole, and `CheckpointFileError` if it does not exist or the system refuses.
    """
    path = text_of(path)
    with telling("load", path):
        check_regular(os.stat(path), "load", path)  # opening a pipe would wait for its writer
        file = open(path, "rb", opener=_open_to_read)  # noqa: SIM115
    with file:
        check_regular(os.fstat(file.fileno()), "load", path)
        with telling("load", path):
            stored = Stored(path, file)
        yield stored


def _open_to_read(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # in case it has become a pipe


def read_arrays(path: PathLike) -> dict[str, np.ndarray]:
    """All arrays in a file, by name. Raises what `opened` raises."""
    return read_file(path)[0]


def read_file(path: PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All arrays in a file, and its metadata. Raises what `opened` raises."""
    with opened(path) as stored:
        return {name: stored.later(name).read() for name in stored}, stored.metadata
