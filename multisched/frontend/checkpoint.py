"""Saves the values of variables to files, and loads them."""

from fnmatch import fnmatchcase

from multisched.errors import CheckpointMismatch, DuplicatePath, listed
from multisched.frontend.updates import get_variables
from multisched.frontend.variables import Variable, assign, values_of
from multisched.graph.scope import current_graph
from multisched.runtime.files import Later, PathLike, opened, write_arrays
from multisched.runtime.paths import shown_path, text_of

__all__ = ["load_variables", "save_variables"]


def save_variables(path: PathLike, name: str = "*", scope: str = "*") -> None:
    """Write the variables of the current graph whose name and scope match two globs to a safetensors file, by path.

    The file appears whole or not at all, and any backend can load it. Raises `DuplicatePath` if two variables have the
    same path, and `CheckpointFileError` if the system refuses.
    """
    variables = _by_path(name, scope)
    values = values_of(variables)
    write_arrays(path, {p: v.backend.to_numpy(values[p]) for p, v in variables.items()})


def load_variables(path: PathLike, name: str = "*", scope: str = "*") -> None:
    """Read the variables of the current graph whose name and scope match two globs from a file of `save_variables`.

    Entries of the file that do not match the globs are ignored. Raises `CheckpointCorrupt` for a damaged file,
    `CheckpointMismatch` for an entry that is missing, unexpected or of another shape or dtype, `CheckpointNotFound` if
    there is no file, and `CheckpointFileError` if the system refuses. After an error all variables are as they were.
    """
    variables = _by_path(name, scope)
    where = f"Cannot load {shown_path(text_of(path))} into the variables of {current_graph()!r}: "
    with opened(path) as stored:
        if missing := sorted(set(variables) - set(stored)):
            raise CheckpointMismatch(f"{where}the file has no entry for {listed(missing, 20)}.")
        if extra := sorted(p for p in set(stored) - set(variables) if _matches(p, name, scope)):
            raise CheckpointMismatch(f"{where}no variable has the path of the entry {listed(extra, 20)}.")
        entries = {p: stored.later(p) for p in variables}
        for p, variable in variables.items():
            _check_entry(where, p, variable, entries[p])
        new = {v: v._accepted(entries[p].read(), f"The entry {p}") for p, v in variables.items()}
    assign(new)


def _by_path(name: str, scope: str) -> dict[str, Variable]:
    variables = get_variables(name, scope)
    by_path = {v.path: v for v in variables}
    if len(by_path) < len(variables):
        raise DuplicatePath(
            f"Two variables of {current_graph()!r} have the same path, so a file could not tell them apart."
        )
    return by_path


def _matches(path: str, name: str, scope: str) -> bool:
    at, _, own = path.rpartition("/")
    return fnmatchcase(own, name) and fnmatchcase(at + "/", scope)


def _check_entry(where: str, path: str, variable: Variable, entry: Later) -> None:
    if entry.shape != variable.shape:
        raise CheckpointMismatch(f"{where}{path} has the shape {entry.shape} in the file, but {variable.shape} here.")
    if entry.dtype != variable.dtype:
        raise CheckpointMismatch(f"{where}{path} has the dtype {entry.dtype} in the file, but {variable.dtype} here.")
