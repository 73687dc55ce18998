"""Averages in files: safetensors, written whole or not at all, with a checksum for each array."""

import os
import re
from functools import partial
from typing import Any

import numpy as np

from multisched.errors import CheckpointCorrupt, CheckpointError, CheckpointMismatch, NotAVariable, shown
from multisched.runtime.files import Later, read_file, write_arrays
from multisched.trees.average import Average
from multisched.trees.state import SECTIONS, load_state, numbers, sections

_RULE, _ROUNDING = "multisched.rule", "multisched.rounding"


def save(path: str | os.PathLike[str], average: Average) -> None:
    """Write an average to a safetensors file, which any backend can load.

    The file at `path` is the old one or the new one, whole, whatever happens meanwhile. It has the names, shapes and
    dtypes of all leaves, the count, the rule, and checksums of all that; it holds no code. Leaves that are skipped, or
    no arrays, are not in it. The others come to the host one at a time, while updates from other threads wait. A link
    is followed, and stays. What a process that was killed left beside the file goes at the first save an hour later.

    Raises `SwapError` while the model holds the average, `CheckpointError` for an average of distributed arrays, whose
    `state_dict()` is for `torch.distributed.checkpoint`, `DTypeError` for complex128, and `OSError`.

    >>> import tempfile
    >>> import numpy as np
    >>> import multisched as ms
    >>> avg = ms.Average({"w": np.ones(2)}, ms.ema(0.9))
    >>> avg.update()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ms.save(f"{folder}/average.safetensors", avg)
    ...     other = ms.Average({"w": np.zeros(2)}, ms.ema(0.9))
    ...     ms.load(f"{folder}/average.safetensors", other)
    >>> other.value, other.count
    ({'w': array([1., 1.])}, 1)
    """
    average = _checked(average)
    with average._lock:
        average._ready("save it")
        if average._mean.distributed or average._latest.distributed:
            raise CheckpointError(
                "One file cannot hold distributed arrays. Save avg.state_dict() with torch.distributed.checkpoint."
            )
        count, weight = numbers(average)
        arrays: dict[str, Any] = {"count": np.asarray(count, np.int64), "weight": weight}
        for section, names, parts, dtypes in sections(average):
            for name, part, dtype in zip(names, parts, dtypes, strict=True):
                read = partial(average._backend.to_numpy, part)
                arrays[f"{section}/{name}"] = Later(dtype, tuple(part.shape), read)
        write_arrays(path, arrays, _configuration(average))


def _configuration(average: Average) -> dict[str, str]:
    """What a file says of how its average is made, which no array tells; nothing in it differs from run to run."""
    rule = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(average.rule))  # the addresses of functions in schedules
    rounding = average._mean._rounding
    return {_RULE: rule, _ROUNDING: "none" if rounding is None else type(rounding).__name__.lower()}


def load(path: str | os.PathLike[str], average: Average) -> None:
    """Read what `save` wrote into an average of the same rule and leaves, of any backend.

    Raises `CheckpointCorrupt` for a file that is damaged, `CheckpointMismatch` for one of another rule or of other
    leaves, shapes or dtypes, saying what differs, and `OSError` for none; then the average is as it was.
    """
    average = _checked(average)
    where = f"Cannot load {os.fspath(path)!r}: "
    arrays, metadata = read_file(path)
    if _RULE not in metadata:
        raise CheckpointMismatch(f"{where}it is no average that multisched.save wrote.")
    for key, here in _configuration(average).items():
        if metadata.get(key) != here:
            raise CheckpointMismatch(f"{where}its {key.partition('.')[2]} is {metadata.get(key)}, and here {here}.")
    state: dict[str, Any] = {}
    for path_in_file, array in arrays.items():
        section, _, name = path_in_file.partition("/")
        if section in SECTIONS:
            state.setdefault(section, {})[name] = array
        elif path_in_file in ("count", "weight"):
            state[path_in_file] = array
        else:
            raise CheckpointCorrupt(f"{where}it has the entry {path_in_file!r}, which no average has.")
    with average._lock:
        average._ready("load it")
        load_state(average, state, where)


def _checked(average: Any) -> Average:
    if not isinstance(average, Average):
        raise NotAVariable(f"save and load take a ms.Average, got {shown(average)}; variables have save_variables.")
    return average
