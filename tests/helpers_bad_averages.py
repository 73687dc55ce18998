"""Bad input to averages of whole models, on arrays of NumPy, whichever backend is in use; see `helpers_bad_input`."""

import copy
from collections.abc import Mapping
from contextlib import suppress

import numpy as np
from helpers_bad_input import Row

import multisched as ms
from multisched import errors


def average(**options):
    return ms.Average({"w": np.ones(2, np.float32), "n": np.array(3)}, ms.ema(0.5), **options)


def nested(_):
    avg = average()
    with avg.swapped(), avg.swapped():
        pass


def updated_while_swapped(_):
    avg = average()
    with avg.swapped():
        avg.update()


class Reading(Mapping):
    """The state of an average, which reads it while it is loaded, as a handler of signals might."""

    def __init__(self, avg):
        self.avg, self.state = avg, avg.state_dict()

    def __getitem__(self, key):
        return self.avg.value if key == "average" else self.state[key]

    def __iter__(self):
        return iter(self.state)

    def __len__(self):
        return len(self.state)


def read_while_loaded(_):
    avg = average()
    avg.load_state_dict(Reading(avg))


class Failing(type(ms.get_backend("numpy"))):
    """NumPy, whose memory ends in the middle of an update."""

    def blend(self, *args):
        raise MemoryError


def updated_when_torn(_):
    avg = average(backend=Failing())
    with suppress(MemoryError):
        avg.update()
    avg.update()


AVERAGES = {
    "an average by a schedule": Row(
        lambda _: ms.Average({}, ms.constant(0.5)), errors.NotARule, TypeError, ("ms.ema(0.999)", "constant(0.5)")
    ),
    "an average by a window": Row(
        lambda _: ms.Average({}, ms.sma(3)), errors.NotARule, TypeError, ("ms.ema(0.999)", "sma(3)")
    ),
    "an average from init": Row(
        lambda _: ms.Average({}, ms.ema(0.9, init=0.0)), errors.RuleError, ValueError, ("ema(0.9, init=0.0)", "init")
    ),
    "an average of dates": Row(
        lambda _: ms.Average({"day": np.zeros(2, "datetime64[D]")}, ms.ema(0.9)),
        errors.LeafError,
        ValueError,
        ("nothing to average", "'day'", "datetime64", "numbers"),
    ),
    "an average of Python numbers": Row(
        lambda _: ms.Average({"a": 1.0, "b": 2}, ms.swa()),
        errors.LeafError,
        ValueError,
        ("nothing to average", "'a', 'b'"),
    ),
    "a copy of an average": Row(
        lambda _: copy.deepcopy(average()), errors.AverageError, ValueError, ("neither copied", "state_dict", "ms.save")
    ),
    "an average in integers": Row(
        lambda _: average(dtype="int32"), errors.AverageError, ValueError, ("dtype", "floating", "'int32'")
    ),
    "an unknown rounding": Row(
        lambda _: average(dtype="bfloat16", rounding="up"),
        errors.AverageError,
        ValueError,
        ("'stochastic'", "'compensated'", "'up'"),
    ),
    "a rounding of float32": Row(
        lambda _: average(rounding="stochastic"), errors.AverageError, ValueError, ('dtype="bfloat16"', "None")
    ),
    "an unknown place": Row(lambda _: average(offload="disk"), errors.AverageError, ValueError, ('"cpu"', "'disk'")),
    "a selection of nothing": Row(
        lambda _: average(select={"v*": "copy"}), errors.SelectError, ValueError, ("'v*'", "'w'")
    ),
    "an unknown policy": Row(
        lambda _: average(select={"w": "drop"}),
        errors.SelectError,
        ValueError,
        ("'drop'", "'w'", "average, copy, skip"),
    ),
    "a mean of counts": Row(
        lambda _: average(select={"n": "average"}), errors.SelectError, ValueError, ("'n'", "int64", "floating")
    ),
    "a selection that is a list": Row(
        lambda _: average(select=["w"]), errors.SelectError, ValueError, ("select", "['w']")
    ),
    "two leaves of one name": Row(
        lambda _: ms.Average({"a.b": np.ones(1), "a": {"b": np.ones(1)}}, ms.swa()),
        errors.DuplicatePath,
        ValueError,
        ("'a.b'",),
    ),
    "a leaf that is missing": Row(
        lambda _: average().update({"n": np.array(3)}), errors.TreeMismatch, ValueError, ("lacks", "'w'")
    ),
    "a leaf of another shape": Row(
        lambda _: average().update({"w": np.ones(3, np.float32), "n": np.array(3)}),
        errors.TreeMismatch,
        ValueError,
        ("'w'", "(3,)", "(2,)"),
    ),
    "a leaf of another kind": Row(
        lambda _: average().update({"w": np.ones(2, np.int32), "n": np.array(3)}),
        errors.TreeMismatch,
        ValueError,
        ("'w'", "int32", "float32"),
    ),
    "an average swapped twice": Row(nested, errors.SwapError, RuntimeError, ("holds the average", "avg.swapped()")),
    "an update while swapped": Row(updated_while_swapped, errors.SwapError, RuntimeError, ("holds", "update")),
    "a state without a count": Row(
        lambda _: average().load_state_dict({"average": {}}), errors.CheckpointMismatch, ValueError, ("'count'",)
    ),
    "a file of what is no average": Row(
        lambda t: ms.load(t.path, average()), errors.CheckpointMismatch, ValueError, ("multisched.save",)
    ),
    "a file that is not there": Row(
        lambda t: ms.load(t.folder / "none", average()), errors.CheckpointNotFound, FileNotFoundError, ("none", "load")
    ),
    "a folder in place of a file": Row(
        lambda t: ms.save(t.folder, average()), errors.CheckpointIsFolder, IsADirectoryError, ("a folder", "save")
    ),
    "a path with a null character": Row(
        lambda t: ms.save(f"{t.folder}/\0", average()), errors.CheckpointFileError, OSError, ("null",)
    ),
    "a variable saved as an average": Row(
        lambda t: ms.save(t.path, t.w), errors.NotAVariable, TypeError, ("ms.Average", "save_variables")
    ),
    "an average that is read while it is loaded": Row(
        read_while_loaded, errors.ReentrantError, RuntimeError, ("in the middle of another call", "signal", "flag")
    ),
    "an update of a torn average": Row(updated_when_torn, errors.TornError, RuntimeError, ("torn", "ms.load")),
    "a mask of no bool": Row(lambda _: average().update(where=1), errors.MaskError, TypeError, ("where", "int")),
}
