"""Where files are saved: modes and owners, links, what is no regular file, names, folders, and what users may do."""

import errno
import json
import os
import pickle
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from multisched import errors
from multisched.runtime.files import Later, read_arrays, write_arrays

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes, links and pipes are those of POSIX")

ARRAYS = {"a": np.arange(3.0)}


def whole(path):
    return read_arrays(path)["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o755, 0o200])
@pytest.mark.parametrize("umask", [0o022, 0o077, 0])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path, mode, umask):
    """Whatever the umask: a file that others may not read stays so, and one that they may, too."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(mode)
    before = os.umask(umask)
    try:
        write_arrays(path, ARRAYS)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    path.chmod(0o600)
    assert whole(path)


def test_nobody_else_reads_a_secret_file_while_it_is_written(tmp_path):
    """The temporary file has the mode of the file that it will replace before it has any content."""
    path, modes = tmp_path / "file", []
    path.write_bytes(b"old")
    path.chmod(0o600)

    def read():
        modes.extend(stat.S_IMODE(entry.stat().st_mode) for entry in tmp_path.iterdir())
        return np.zeros(2)

    before = os.umask(0)
    try:
        write_arrays(path, {"a": Later("float64", (2,), read)})
    finally:
        os.umask(before)
    assert modes == [0o600, 0o600]


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root gives files away")
def test_a_file_that_is_replaced_keeps_its_owner(tmp_path):
    """Root saving over a file of a user leaves it to that user."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    os.chown(path, 1234, 4321)
    path.chmod(0o640)
    write_arrays(path, ARRAYS)
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 4321, 0o640)


def test_a_group_that_cannot_be_kept_gains_nothing(tmp_path, monkeypatch):
    """Where the owner cannot be kept, the group is another: it may do what all others may, and no more."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o664)

    def refuse(file, user, group):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    fstat = os.fstat
    monkeypatch.setattr(os, "fchown", refuse)
    monkeypatch.setattr(os, "fstat", lambda file: os.stat_result((*fstat(file)[:4], 1234, 1234, *fstat(file)[6:])))
    write_arrays(path, ARRAYS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


# --- what is no regular file -----------------------------------------------------------------------------------------
def special(kind, folder):
    path = folder / kind
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    elif kind == "device":
        return Path("/dev/null")
    else:
        path.mkdir()
    return path


@pytest.mark.parametrize("linked", [False, True], ids=["itself", "by a link"])
@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder"])
def test_what_is_no_regular_file_is_refused(kind, linked):
    """A pipe, socket, device or folder is named as what it is, at once, and stays; so is a link to it."""
    folder = Path(tempfile.mkdtemp())  # paths of sockets are short
    try:
        path = special(kind, folder)
        if linked:
            (folder / "link").symlink_to(path)
            path = folder / "link"
        names, kind_before = sorted(os.listdir(folder)), stat.S_IFMT(path.stat().st_mode)
        expected = errors.CheckpointIsFolder if kind == "folder" else errors.CheckpointFileError
        for use in (lambda: write_arrays(path, ARRAYS), lambda: read_arrays(path)):
            with pytest.raises(expected, match=f"it is a .*{kind}") as raised:
                use()
            assert type(raised.value) is expected
        assert (sorted(os.listdir(folder)), stat.S_IFMT(path.stat().st_mode)) == (names, kind_before)
    finally:
        shutil.rmtree(folder)


def test_links_in_a_circle(tmp_path):
    """Links that lead nowhere but to each other are an error of the system, and stay."""
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for use in (lambda: write_arrays(tmp_path / "a", ARRAYS), lambda: read_arrays(tmp_path / "a")):
        with pytest.raises(errors.CheckpointFileError) as raised:
            use()
        assert raised.value.errno == errno.ELOOP
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
    assert (tmp_path / "a").is_symlink()


def test_the_error_of_the_system_is_kept(tmp_path):
    """The error has the number, the file and the system's own error as its cause, also once it was pickled."""
    path = tmp_path / "none" / "file"
    for use in (lambda: write_arrays(path, ARRAYS), lambda: read_arrays(path)):
        with pytest.raises(errors.CheckpointNotFound, match="No such file") as raised:
            use()
        assert isinstance(raised.value.__cause__, FileNotFoundError)
        again = pickle.loads(pickle.dumps(raised.value))
        for error in (raised.value, again):
            assert isinstance(error, FileNotFoundError)
            assert (error.errno, error.filename) == (errno.ENOENT, str(path))
            assert str(error) == str(raised.value)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(errors.CheckpointFileError) as raised:
        write_arrays(tmp_path / "file" / "file", ARRAYS)
    assert raised.value.errno == errno.ENOTDIR


# --- names -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["n" * 255, "n" * 100, "n" * 101, "ö" * 127, "重" * 85, ".", "a\nb", " ", "\udcff"])
def test_names_of_any_kind(tmp_path, name):
    """Names as long as the file system has them, of any letters; temporary files that a process left are found."""
    path = tmp_path / (name if name != "." else "..file")
    write_arrays(path, ARRAYS)
    seen = []

    def read():
        seen.extend(set(os.listdir(tmp_path)) - {path.name})
        return np.arange(3.0)

    write_arrays(path, {"a": Later("float64", (3,), read)})
    assert whole(path)
    (left,) = seen
    (tmp_path / left).write_bytes(b"")
    os.utime(tmp_path / left, (0, 0))
    write_arrays(path, ARRAYS)
    assert os.listdir(tmp_path) == [path.name]
    path.write_bytes(b"")
    with pytest.raises(errors.CheckpointCorrupt) as raised:
        read_arrays(path)
    str(raised.value).encode()
    assert "\n" not in str(raised.value)


def test_a_name_too_long_is_the_systems_error(tmp_path):
    """A name of 256 bytes, or a path that is far too long, is an error with a message of a screen."""
    for path in (tmp_path / ("n" * 256), tmp_path / "/".join(["n" * 200] * 100)):
        for use in (lambda: write_arrays(path, ARRAYS), lambda: read_arrays(path)):  # noqa: B023
            with pytest.raises(errors.CheckpointFileError) as raised:
                use()
            assert raised.value.errno == errno.ENAMETOOLONG
            assert len(str(raised.value)) < 1000
    assert os.listdir(tmp_path) == []


class Its:
    """A path of somebody else's class."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return self.path


@pytest.mark.parametrize("kind", [str, os.fsencode, Path, lambda path: Its(str(path)), lambda path: Its(bytes(path))])
def test_paths_of_any_kind(tmp_path, kind):
    """A str, bytes, and any os.PathLike are paths."""
    write_arrays(kind(tmp_path / "file"), ARRAYS)
    assert whole(kind(tmp_path / "file"))


@pytest.mark.parametrize("path", [None, 3, 1.5, ["file"], Its(3)], ids=lambda path: type(path).__name__)
def test_what_is_no_path(path):
    """Anything else, the number of an open file as well, is an error that says what a path is."""
    for use in (lambda: write_arrays(path, ARRAYS), lambda: read_arrays(path)):
        with pytest.raises(errors.CheckpointError, match=r"A path must be a str, bytes or an os\.PathLike"):
            use()


@pytest.mark.parametrize("path", ["", ".", "..", "new/", "file/", "folder/", "folder/."])
def test_paths_that_name_no_file(tmp_path, monkeypatch, path):
    """An empty path, and those that end as paths of folders do, are refused; nothing appears in the folder or above."""
    (tmp_path / "here" / "folder").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    Path("file").write_bytes(b"old")
    for use in (lambda: write_arrays(path, ARRAYS), lambda: read_arrays(path)):
        with pytest.raises(errors.CheckpointFileError, match=r"folder|empty"):
            use()
    assert (sorted(os.listdir()), os.listdir("..")) == (["file", "folder"], ["here"])
    assert Path("file").read_bytes() == b"old"


def test_a_relative_path_when_the_folder_changes(tmp_path, monkeypatch):
    """A relative path is of the folder in which the save began, even where the program goes elsewhere meanwhile."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def read():
        os.chdir(tmp_path / "there")
        return np.arange(3.0)

    write_arrays("file", {"a": Later("float64", (3,), read)})
    assert os.listdir(tmp_path / "there") == []
    assert whole(tmp_path / "here" / "file")


def test_what_looks_like_ours_and_is_none_stays(tmp_path):
    """Of old entries beside a file, only regular files that a save made go."""
    path, name = tmp_path / "file", ".file.0123456789abcdef.partial"
    others = [
        ".file.0123456789abcde.partial",
        ".file.0123456789ABCDEF.partial",
        f"x{name}",
        f"{name}.old",
        "file.partial",
    ]
    for other in (*others, name):
        (tmp_path / other).write_bytes(b"")
    (tmp_path / ".file.0000000000000000.partial").mkdir()
    (tmp_path / ".file.1111111111111111.partial").symlink_to(tmp_path / "elsewhere")
    for entry in tmp_path.iterdir():
        os.utime(entry, (0, 0), follow_symlinks=False)
    write_arrays(path, ARRAYS)
    kept = [".file.0000000000000000.partial", ".file.1111111111111111.partial"]
    assert sorted(os.listdir(tmp_path)) == sorted(["file", *others, *kept])


# --- what a user may not do ------------------------------------------------------------------------------------------
AS_A_USER = """
import json, os, stat, sys
import numpy as np
from multisched.runtime.files import read_arrays, write_arrays

folder, told = sys.argv[1], {}
arrays = {"a": np.arange(3.0)}
os.chmod(folder, 0o777)
write_arrays(f"{folder}/warm", arrays); read_arrays(f"{folder}/warm"); os.remove(f"{folder}/warm")
try:
    read_arrays(f"{folder}/warm")
except OSError:
    pass
if os.getuid() == 0:
    os.setegid(4321); os.seteuid(1234)

def attempt(name, do):
    try:
        do()
        told[name] = "done"
    except OSError as error:
        told[name] = type(error).__name__

def folder_of(name, mode):
    path = f"{folder}/{name}"
    os.mkdir(path)
    write_arrays(f"{path}/file", arrays)
    os.chmod(path, mode)
    return path

where = folder_of("write-only", 0o300)
attempt("save into a write-only folder", lambda: write_arrays(f"{where}/file", {"a": np.zeros(3)}))
attempt("save anew into a write-only folder", lambda: write_arrays(f"{where}/new", {"a": np.zeros(3)}))
attempt("load from a write-only folder", lambda: read_arrays(f"{where}/file"))
os.chmod(where, 0o700)
told["in the write-only folder"] = sorted(os.listdir(where)), read_arrays(f"{where}/file")["a"].tolist()

where = folder_of("read-only", 0o500)
attempt("save into a read-only folder", lambda: write_arrays(f"{where}/file", {"a": np.zeros(3)}))
attempt("load from a read-only folder", lambda: read_arrays(f"{where}/file"))
os.chmod(where, 0o700)
told["in the read-only folder"] = sorted(os.listdir(where)), read_arrays(f"{where}/file")["a"].tolist()

where = folder_of("closed", 0)
attempt("save into a closed folder", lambda: write_arrays(f"{where}/file", {"a": np.zeros(3)}))
attempt("load from a closed folder", lambda: read_arrays(f"{where}/file"))

where = folder_of("open", 0o700)
os.chmod(f"{where}/file", 0o400)
attempt("save over a read-only file", lambda: write_arrays(f"{where}/file", {"a": np.zeros(3)}))
told["in the open folder"] = sorted(os.listdir(where)), read_arrays(f"{where}/file")["a"].tolist()
os.chmod(f"{where}/file", 0o200)
attempt("load a write-only file", lambda: read_arrays(f"{where}/file"))
attempt("save over a write-only file", lambda: write_arrays(f"{where}/file", {"a": np.zeros(3)}))
told["its mode"] = stat.S_IMODE(os.stat(f"{where}/file").st_mode)
os.chmod(f"{folder}/closed", 0o700)
print(json.dumps(told))
"""


def test_folders_and_files_that_a_user_may_not_use():
    """What the system denies is `CheckpointDenied`, and leaves all as it was; a folder need not be readable to save."""
    folder = tempfile.mkdtemp()  # where any user gets to, unlike pytest's own
    try:
        done = subprocess.run(
            [sys.executable, "-c", AS_A_USER, folder], capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {
            "save into a write-only folder": "done",
            "save anew into a write-only folder": "done",
            "load from a write-only folder": "done",
            "in the write-only folder": [["file", "new"], [0, 0, 0]],
            "save into a read-only folder": "CheckpointDenied",
            "load from a read-only folder": "done",
            "in the read-only folder": [["file"], [0, 1, 2]],
            "save into a closed folder": "CheckpointDenied",
            "load from a closed folder": "CheckpointDenied",
            "save over a read-only file": "CheckpointDenied",
            "in the open folder": [["file"], [0, 1, 2]],
            "load a write-only file": "CheckpointDenied",
            "save over a write-only file": "done",
            "its mode": 0o200,
        }
    finally:
        shutil.rmtree(folder)
