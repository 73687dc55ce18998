"""Arrays in files: safetensors, written atomically and array by array, with checksums of all that is in them.

The format holds no code, so that a file from a stranger is safe to open; any backend reads any other's file. What is
read, and what is allocated for it, is in proportion to the file, and to what the caller asks for.
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
"""Seconds without a byte written after which a temporary file is one that a process left behind when it died."""

PathLike = str | bytes | os.PathLike[str] | os.PathLike[bytes]


class Later(NamedTuple):
    """An array that is brought to the host when its turn comes, so that no two are there at once."""

    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


# --- writing ---------------------------------------------------------------------------------------------------------
def write_arrays(
    path: PathLike, arrays: Mapping[str, "np.ndarray | Later"], metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays by name. The file at `path` is the old one or the new one, whole, whatever happens meanwhile.

    Raises `DTypeError` for what the format lacks, and `CheckpointError` for what cannot be written, before the file is
    touched, and `CheckpointFileError` where the system refuses.
    """
    path = text_of(path)
    forms = {name: _form(array) for name, array in arrays.items()}
    for name, (dtype, _) in forms.items():
        if not header.has(dtype):
            raise DTypeError(f"{name}: safetensors has no dtype {dtype}.")
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
    """The bytes of an array as they are in a file, as an array, which shares its memory if it can."""
    array = array.read() if isinstance(array, Later) else array
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)


@contextmanager
def _replacing(path: str) -> Iterator[BinaryIO]:
    """A new file, which takes the place of the one that `path` leads to at the end of the block, and only then.

    It gets the mode and the owner of the file that it replaces, or those of any new file. Links are followed.
    """
    old = _replaceable(path)
    target = Path(os.path.realpath(path))
    _clear(target)
    temporary = target.with_name(f"{_prefix(target)}{os.urandom(8).hex()}.partial")
    mode = 0o666 if old is None else stat.S_IMODE(old.st_mode) & 0o700  # nobody else reads it before it is as the old
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
    """What is known of the regular file that is to be replaced, if there is one; anything else there is an error."""
    try:
        old = os.stat(path)
    except FileNotFoundError:
        return None
    check_regular(old, "save to", path)
    effective = os.access in os.supports_effective_ids
    if not os.access(path, os.W_OK, effective_ids=effective):  # to rename would not ask, but read-only is meant
        message = f"Cannot save to {shown_path(path)}: the file is read-only. Remove it, or let it be written."
        raise CheckpointDenied(message, errno.EACCES, path)
    return old


def _make_alike(file: int, old: os.stat_result) -> None:
    """Give an open file the owner and the mode of an old one, as far as the system lets."""
    if not hasattr(os, "fchown"):  # Windows
        return
    mode, new = stat.S_IMODE(old.st_mode) & 0o777, os.fstat(file)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        try:
            os.fchown(file, old.st_uid, old.st_gid)
        except OSError:  # of another user: then the group is another, and may do what everybody may
            mode = mode & 0o707 | (mode & 0o007) << 3
    with suppress(OSError):  # there are file systems without modes
        os.fchmod(file, mode)


def _prefix(target: Path) -> str:
    """How the names of temporary files for a target begin; they are no longer than any file system allows."""
    name = target.name
    if len(os.fsencode(name)) > 100:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return f".{name}."


def _clear(target: Path) -> None:
    """Remove what processes that died while they wrote `target` have left; one that lives has written lately."""
    ours = re.compile(re.escape(_prefix(target)) + "[0-9a-f]{16}[.]partial")
    with suppress(OSError):  # a folder that cannot be listed may still be written to
        for name in filter(ours.fullmatch, os.listdir(target.parent)):
            left = target.with_name(name)
            with suppress(OSError):
                found = left.lstat()
                if stat.S_ISREG(found.st_mode) and time.time() - found.st_mtime > _ABANDONED:
                    left.unlink()


def _sync_folder(folder: Path) -> None:
    """Make the new name of a file last through a loss of power, where folders can be opened."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:  # a folder that may be written to and not be read
        return
    try:
        os.fsync(opened)
    except OSError as cause:
        if cause.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems keep names without it
            raise
    finally:
        os.close(opened)


# --- reading ---------------------------------------------------------------------------------------------------------
class Stored:
    """The arrays of a file that is open: what they look like, and each one when it is asked for."""

    def __init__(self, path: str, file: BinaryIO):
        self._path, self._file = path, file
        length = os.fstat(file.fileno()).st_size
        try:
            first = file.read(8)
            self._header = header.read(first + file.read(header.size_of(first, length) - 8), length)
        except (ValueError, KeyError, TypeError, RecursionError) as cause:
            raise self._damaged("is no whole safetensors file", str(cause)[:500]) from cause
        self.metadata: dict[str, str] = self._header.metadata

    def __iter__(self) -> Iterator[str]:
        return iter(self._header.entries)

    def later(self, name: str) -> Later:
        """An array that is read from the file, which must be open then, when its turn comes."""
        entry = self._header.entries[name]
        return Later(entry.dtype, entry.shape, partial(self._read, name))

    def _read(self, name: str) -> np.ndarray:
        """An array, once its bytes are known to be those that were written."""
        entry = self._header.entries[name]
        with telling("load", self._path):
            data = np.empty(entry.end - entry.start, np.uint8)
            self._file.seek(self._header.size + entry.start)
            if self._file.readinto(data) != len(data):  # type: ignore[attr-defined]
                raise self._damaged("is damaged", "it became shorter while it was read")
        checksums = self._header.checksums
        if checksums is not None and checksums[name] != header.checksum(data):
            raise self._damaged("is damaged", f"the checksum of {named(name)} is not that of its bytes")
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

    Raises `CheckpointCorrupt` unless the file is whole, and `CheckpointFileError` where there is none, or the system
    refuses. All arrays are of one moment, whoever replaces the file meanwhile.
    """
    path = text_of(path)
    with telling("load", path):
        check_regular(os.stat(path), "load", path)  # before it is opened, which would wait for the writer of a pipe
        file = open(path, "rb", opener=_open_to_read)  # noqa: SIM115
    with file:
        check_regular(os.fstat(file.fileno()), "load", path)
        with telling("load", path):
            stored = Stored(path, file)
        yield stored


def _open_to_read(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # in case that it has become a pipe


def read_arrays(path: PathLike) -> dict[str, np.ndarray]:
    """All arrays in a file, by name; raises as `opened` does."""
    return read_file(path)[0]


def read_file(path: PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All arrays in a file, and what else its writer said of them; raises as `opened` does."""
    with opened(path) as stored:
        return {name: stored.later(name).read() for name in stored}, stored.metadata
