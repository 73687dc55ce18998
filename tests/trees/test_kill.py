"""Processes that are killed while they save: the previous checkpoint or the new one is there, whole."""

import json
import os
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

import multisched as ms

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes to kill are forked")

COMMON = """
import json, os, random, signal, sys, time
import numpy as np
import multisched as ms

path = sys.argv[1]
LEAVES = {"large": 150_000, "other": 50_000, "small": 3}

def saved(number):
    # An average that is nothing but the number of its save: in every element, in a leaf that is copied, in its count.
    leaves = {name: np.full(size, float(number)) for name, size in LEAVES.items()}
    average = ms.Average({**leaves, "steps": np.asarray(number)}, ms.swa())
    average.load_state_dict({**average.state_dict(), "count": number})
    return average

def found():
    # The number of the checkpoint that is there, if all in it agrees.
    average = saved(0)
    ms.load(path, average)
    numbers = {average.count, *(float(v) for leaf in average.value.values() for v in np.unique(leaf))}
    assert len(numbers) == 1, numbers
    return int(numbers.pop())
"""

AT_RANDOM = """
draw = random.Random(int(sys.argv[2]))
ms.save(path, saved(0))
last, kills, within, each = 0, 0, {"previous": 0, "new": 0}, 0.01
while last < 300:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        number = last
        while True:
            number += 1
            average = saved(number)
            os.write(writing, b"(")
            ms.save(path, average)
            os.write(writing, b")")
    os.close(writing)
    begun = ended = last
    rest = draw.randint(0, 5)
    while rest >= 0:  # so many saves end, and one more begins
        mark = os.read(reading, 1)
        begun, ended, rest = begun + (mark == b"("), ended + (mark == b")"), rest - (mark == b"(")
        started, each = time.monotonic(), time.monotonic() - started if mark == b")" else each
    time.sleep(draw.uniform(0, 1.5 * each))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while (told := os.read(reading, 1000)):
        begun, ended = begun + told.count(b"("), ended + told.count(b")")
    os.close(reading)
    last = found()
    assert ended <= last <= begun <= ended + 1, (ended, last, begun)
    kills += 1
    if begun > ended:
        within["new" if last == begun else "previous"] += 1
left = [name for name in os.listdir(os.path.dirname(path)) if name != os.path.basename(path)]
print(json.dumps({"saves": last, "kills": kills, "left": left, **within}))
"""


def run(script, *arguments):
    script = textwrap.dedent(COMMON) + textwrap.dedent(script)
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    """Over 300 saves, with a SIGKILL at random moments: what is there is whole, and the last or the one under way.

    What the killed ones left is removed by a save an hour later, and by none before, as another may be at work.
    """
    path = tmp_path / "file"
    told = run(AT_RANDOM, path, 7)
    assert told["saves"] >= 300
    assert told["previous"] >= 5  # kills that struck while a new file was being written
    assert all(name.startswith(".file.") and name.endswith(".partial") for name in told["left"])
    assert len(told["left"]) <= told["kills"]
    assert told["left"]
    average = ms.Average({"w": np.ones(2)}, ms.swa())
    others = [tmp_path / name for name in (".file.0123456789abcdef.tmp", ".file2.0123456789abcdef.partial", "partial")]
    for other in others:
        other.touch()
    ms.save(path, average)
    assert set(told["left"]) <= set(os.listdir(tmp_path))
    for entry in tmp_path.iterdir():
        os.utime(entry, (time.time() - 3700,) * 2)
    ms.save(path, average)
    assert sorted(os.listdir(tmp_path)) == sorted(["file", *(other.name for other in others)])


AT_EACH_CALL = """
import builtins
from multisched.runtime import files

class File:
    # A file that counts what is written to it.
    def __init__(self, file):
        self.file = file
    def __enter__(self):
        return self
    def __exit__(self, *error):
        self.file.close()
    def write(self, data):
        counted("write begins")
        half = memoryview(data).cast("B")[: len(memoryview(data).cast("B")) // 2]
        self.file.write(half)
        self.file.flush()
        counted("half is written")
        self.file.write(memoryview(data).cast("B")[len(half) :])
        counted("all is written")
    def __getattr__(self, name):
        return getattr(self.file, name)

def around(name, call):
    def counting(*args):
        counted(f"{name} begins")
        result = call(*args)
        counted(f"{name} ended")
        return result
    return counting

def counted(name):
    global calls
    if calls == at:
        os.write(writing, name.encode())
        os.kill(os.getpid(), signal.SIGKILL)
    calls += 1

files.open = lambda *args, **options: File(builtins.open(*args, **options))
os.fsync, os.replace = around("fsync", os.fsync), around("replace", os.replace)
calls, at = 0, None
ms.save(path, saved(0))
moments, number = [], 0
while True:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        calls, at = 0, len(moments)
        ms.save(path, saved(number + 1))
        os._exit(0)
    os.close(writing)
    name = os.read(reading, 100).decode()
    os.close(reading)
    died = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    there = found() - number
    if not died:
        assert there == 1
        break
    moments.append((name, there))
    number += there
print(json.dumps(moments))
"""


def test_a_kill_at_each_step_leaves_a_whole_checkpoint(tmp_path):
    """Killed before, within and after each write, fsync and rename in turn: up to the rename it is the old file."""
    moments = run(AT_EACH_CALL, tmp_path / "file")
    names = [name for name, _ in moments]
    renamed = names.index("replace ended")
    assert [new for _, new in moments] == [0] * renamed + [1] * (len(moments) - renamed)
    assert names[renamed - 3 :] == [
        *("fsync begins", "fsync ended", "replace begins", "replace ended", "fsync begins", "fsync ended")
    ]
    writes = 8  # the header, four leaves, the count, the weight, and the header again with the checksums
    assert names[: renamed - 3] == ["write begins", "half is written", "all is written"] * writes
