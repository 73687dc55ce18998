"""Variables in files."""

import os
from fnmatch import fnmatchcase

import numpy as np

from multisched.errors import CheckpointMismatch, DuplicatePath
from multisched.frontend.updates import get_variables
from multisched.frontend.variables import Variable, holding
from multisched.graph.scope import current_graph
from multisched.runtime.files import read_arrays, write_arrays


def save_variables(path: str | os.PathLike[str], name: str = "*", scope: str = "*") -> None:
    """Write the variables of the current graph that match two globs to a safetensors file, by path.

    The file appears whole or not at all. Any backend can load it.
    """
    variables = _by_path(name, scope)
    with holding(variables.values()):
        values = {p: v.value for p, v in variables.items()}
    write_arrays(path, {p: v.backend.to_numpy(values[p]) for p, v in variables.items()})


def load_variables(path: str | os.PathLike[str], name: str = "*", scope: str = "*") -> None:
    """Read the variables of the current graph that match two globs from a file that `save_variables` wrote.

    Entries of the file outside the globs are left alone. Raises `CheckpointCorrupt` for a damaged file,
    `CheckpointMismatch` for a missing, unexpected or misshaped entry, `OSError` for no file; then nothing has changed.
    """
    variables = _by_path(name, scope)
    entries = read_arrays(path)
    matching = {p for p in entries if _matches(p, name, scope)}
    where = f"Cannot load {os.fspath(path)!r} into the variables of {current_graph()!r}: "
    if missing := sorted(set(variables) - set(entries)):
        raise CheckpointMismatch(f"{where}the file has no entry for {', '.join(missing)}.")
    if extra := sorted(matching - set(variables)):
        raise CheckpointMismatch(f"{where}there is no variable for the entry {', '.join(extra)}.")
    for p, variable in variables.items():
        _check_entry(where, p, variable, entries[p])
    new = [(v, v._accepted(entries[p], f"The entry {p}")) for p, v in variables.items()]
    with holding(variables.values()):
        for variable, array in new:
            variable.update(array)


def _by_path(name: str, scope: str) -> dict[str, Variable]:
    variables = get_variables(name, scope)
    by_path = {v.path: v for v in variables}
    if len(by_path) < len(variables):
        raise DuplicatePath(
            f"Two variables of {current_graph()!r} have the same path; a file could not tell them apart."
        )
    return by_path


def _matches(path: str, name: str, scope: str) -> bool:
    at, _, own = path.rpartition("/")
    return fnmatchcase(own, name) and fnmatchcase(at + "/", scope)


def _check_entry(where: str, path: str, variable: Variable, entry: np.ndarray) -> None:
    if entry.shape != variable.shape:
        raise CheckpointMismatch(f"{where}{path} has the shape {entry.shape} there, {variable.shape} here.")
    if entry.dtype.name != variable.dtype:
        raise CheckpointMismatch(f"{where}{path} has the dtype {entry.dtype.name} there, {variable.dtype} here.")
