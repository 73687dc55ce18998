"""Averages in files: safetensors, written whole or not at all, with a checksum for each array."""

from functools import partial
from typing import Any

import numpy as np

from multisched.arrays import dtype_name
from multisched.errors import CheckpointCorrupt, CheckpointError, CheckpointMismatch, NotAVariable, named, shown
from multisched.runtime.files import Later, PathLike, Stored, opened, write_arrays
from multisched.runtime.paths import shown_path, text_of
from multisched.trees.average import Average
from multisched.trees.contents import SECTIONS, Contents
from multisched.trees.divided import refuse_divided
from multisched.trees.saved_rule import ResumeRule, checked_resume_rule, rule_text
from multisched.trees.state import count_and_weight, load_state, sections

_RULE, _ROUNDING = "multisched.rule", "multisched.rounding"


def save(path: PathLike, average: Average) -> None:
    """Write an average to a safetensors file, which any backend can load.

    If the process is killed, the file at `path` is either the old one or the new one, whole. It holds the arrays by the
    names of their leaves, the count, the rule and checksums, and no code. Skipped leaves, and leaves that are not
    arrays, are not in it. The arrays come to the host one at a time, while updates from other threads wait.

    A file that is replaced keeps its mode, and its owner where the system allows it. If `path` is a symbolic link, the
    link stays, and its target is replaced. A later save removes temporary files that a killed process left behind, once
    they are an hour old.

    Raises `SwapError` while the average is swapped into the model; `DTypeError` if a leaf is complex128; and
    `CheckpointError`, which says what to do instead, if this process holds only a part of the average (DTensors, shards
    of FSDP, JAX arrays over several processes), or if a copied leaf cannot be in such a file (sparse or quantised
    arrays, random keys). If the system refuses, raises `CheckpointFileError`, which is an `OSError`:
    `CheckpointNotFound` if the folder does not exist, `CheckpointDenied` without permission or for a read-only file,
    `CheckpointIsFolder` if `path` is a folder.

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
    contents = _contents_of(average)
    with contents.lock:
        contents.ready("save it")
        refuse_divided(contents.divided, "One file cannot hold what several processes hold")
        _refuse_objects(contents)
        count, weight = count_and_weight(contents)
        arrays: dict[str, Any] = {"count": np.asarray(count, np.int64), "weight": weight}
        for section in sections(contents):
            for name, array, dtype in zip(section.leaves, section.arrays, section.pool.dtypes, strict=True):
                read = partial(contents.backend.to_numpy, array)
                arrays[f"{section.name}/{name}"] = Later(dtype, tuple(array.shape), read)
        write_arrays(path, arrays, _configuration(contents))


def _refuse_objects(contents: Contents) -> None:
    """Refuse arrays that safetensors has no dtype or layout for."""
    for name, i in contents.object_arrays().items():
        raise CheckpointError(
            f"A safetensors file cannot hold the leaf {name!r} of dtype {dtype_name(contents.objects.held[i].dtype)}, "
            f'which is copied as it is. Leave it out with select={{{name!r}: "skip"}}, or save avg.state_dict() in a '
            "format that can hold it."
        )


def _configuration(contents: Contents) -> dict[str, str]:
    """What a file says of how its average is made, which no array tells; nothing in it differs from run to run."""
    rounding = contents.mean.rounding
    return {_RULE: rule_text(contents.rule), _ROUNDING: "none" if rounding is None else type(rounding).__name__.lower()}


def load(path: PathLike, average: Average, rule: ResumeRule = "same") -> None:
    """Read a file of `save` into an average of the same rule and leaves, on the same or another backend.

    `rule="same"` refuses a file of another rule, or of none, because its numbers mean something else. `"mine"`
    continues with the rule of the average, and `"theirs"` with the rule of the file, which then is `average.rule`. An
    array of another dtype is cast if it is of the same kind and every value fits.

    Raises `CheckpointCorrupt` if the file is damaged, `CheckpointMismatch`, which says what differs, if it is of
    another rule or has other leaves, shapes or dtypes, and `CheckpointFileError` if the system refuses, or its subclass
    `CheckpointNotFound` if there is no file. The average is then as it was. An array is read after its shape has been
    found to be that of the average, so that a file from a stranger takes no more memory than the average.
    """
    contents, rule = _contents_of(average), checked_resume_rule(rule)
    where = f"Cannot load {shown_path(text_of(path))}: "
    with opened(path) as stored:
        if rule != "mine" and _RULE not in stored.metadata:
            raise CheckpointMismatch(
                f"{where}it is no average that multisched.save wrote, or has lost its rule, as where another program "
                f'wrote it again without its metadata. Say rule="mine" to go on with {rule_text(contents.rule)}.'
            )
        here, there = _configuration(contents)[_ROUNDING], stored.metadata.get(_ROUNDING)
        if there is not None and there != here:
            raise CheckpointMismatch(f"{where}its rounding is {there[:500]}, and here {here}.")
        state = _state_in(stored, where)
        if _RULE in stored.metadata:
            state["rule"] = stored.metadata[_RULE]
        with contents.lock:
            contents.refuse_in_model("load it")
            if contents.is_distributed or (contents.divided is not None and contents.divided.part.owner):
                refuse_divided(contents.divided, f"{where}one file is not divided among processes")
            load_state(contents, state, where, rule)


def _state_in(stored: Stored, where: str) -> dict[str, Any]:
    """The state in a file, of which each array is read once it is known to fit."""
    state: dict[str, Any] = {}
    for name_in_file in stored:
        section, _, name = name_in_file.partition("/")
        if section in SECTIONS:
            state.setdefault(section, {})[name] = stored.later(name_in_file)
        elif name_in_file in ("count", "weight"):
            state[name_in_file] = stored.later(name_in_file)
        else:
            raise CheckpointCorrupt(f"{where}it has the entry {named(name_in_file)}, which no average has.")
    return state


def _contents_of(average: Any) -> Contents:
    if not isinstance(average, Average):
        raise NotAVariable(f"save and load take a ms.Average, got {shown(average)}; variables have save_variables.")
    return average._contents
