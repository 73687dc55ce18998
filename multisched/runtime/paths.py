"""Checks of the paths that users give, and errors of the system as errors of this library."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from multisched.errors import (
    CheckpointDenied,
    CheckpointError,
    CheckpointFileError,
    CheckpointIsFolder,
    CheckpointNotFound,
    MultischedError,
    shown,
)

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}
_OURS = {
    FileNotFoundError: CheckpointNotFound,
    PermissionError: CheckpointDenied,
    IsADirectoryError: CheckpointIsFolder,
}
_LONGEST = 300
"""The most characters of a path in a message."""


def text_of(path: object) -> str:
    """A path as text: a str, bytes or `os.PathLike`, as `open` takes them."""
    try:
        text = os.fsdecode(path)  # type: ignore[arg-type]  # a TypeError is expected
    except TypeError as cause:
        raise CheckpointError(f"A path must be a str, bytes or an os.PathLike, got {shown(path)}.") from cause
    if "\0" in text:
        raise CheckpointFileError(
            f"{shown_path(text)} is not a path: it contains a null character.", errno.EINVAL, text
        )
    if not text:
        raise CheckpointNotFound("The path is empty, but should name a file.", errno.ENOENT, text)
    if text.endswith(os.sep):
        raise CheckpointIsFolder(f"{shown_path(text)} names a folder, but should name a file.", errno.EISDIR, text)
    return text


def shown_path(path: str) -> str:
    """A path for a message: of a long one the middle is left out."""
    text = repr(path)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 3]}...{text[-_LONGEST // 2 :]}"


@contextmanager
def telling(doing: str, path: str) -> Iterator[None]:
    """Turn an `OSError` inside the block into a `CheckpointFileError`, whose cause it becomes."""
    try:
        yield
    except MultischedError:
        raise
    except OSError as cause:
        kind = next((ours for theirs, ours in _OURS.items() if isinstance(cause, theirs)), CheckpointFileError)
        reason = cause.strerror or str(cause) or type(cause).__name__
        raise kind(f"Cannot {doing} {shown_path(path)}: {reason}.", cause.errno, path) from cause


def check_regular(found: os.stat_result, doing: str, path: str) -> None:
    """Refuse anything but a regular file: opening a pipe would wait, and a device must not be replaced."""
    if stat.S_ISDIR(found.st_mode):
        message = f"Cannot {doing} {shown_path(path)}: it is a folder, but the path should name a file."
        raise CheckpointIsFolder(message, errno.EISDIR, path)
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "not a regular file")
        message = f"Cannot {doing} {shown_path(path)}: it is {kind}, but a checkpoint is a regular file."
        raise CheckpointFileError(message, errno.EINVAL, path)
