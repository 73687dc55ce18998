"""Variables in files."""

from fnmatch import fnmatchcase

from multisched.errors import CheckpointMismatch, DuplicatePath, listed
from multisched.frontend.updates import get_variables
from multisched.frontend.variables import Variable, assign, values_of
from multisched.graph.scope import current_graph
from multisched.runtime.files import Later, PathLike, opened, write_arrays
from multisched.runtime.paths import shown_path, text_of

__all__ = ["load_variables", "save_variables"]


def save_variables(path: PathLike, name: str = "*", scope: str = "*") -> None:
    """Write the variables of the current graph that match two globs to a safetensors file, by path.

    The file appears whole or not at all. Any backend can load it. Raises `DuplicatePath`, and `CheckpointFileError`
    where the system refuses, as `multisched.save` does.
    """
    variables = _by_path(name, scope)
    values = values_of(variables)
    write_arrays(path, {p: v.backend.to_numpy(values[p]) for p, v in variables.items()})


def load_variables(path: PathLike, name: str = "*", scope: str = "*") -> None:
    """Read the variables of the current graph that match two globs from a file that `save_variables` wrote.

    Entries of the file outside the globs are not read. Raises `CheckpointCorrupt` for a damaged file,
    `CheckpointMismatch` for a missing, unexpected or misshaped entry, and `CheckpointFileError` where the system
    refuses, `CheckpointNotFound` if there is no file; then nothing has changed.
    """
    variables = _by_path(name, scope)
    where = f"Cannot load {shown_path(text_of(path))} into the variables of {current_graph()!r}: "
    with opened(path) as stored:
        if missing := sorted(set(variables) - set(stored)):
            raise CheckpointMismatch(f"{where}the file has no entry for {listed(missing, 20)}.")
        if extra := sorted(p for p in set(stored) - set(variables) if _matches(p, name, scope)):
            raise CheckpointMismatch(f"{where}there is no variable for the entry {listed(extra, 20)}.")
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
            f"Two variables of {current_graph()!r} have the same path; a file could not tell them apart."
        )
    return by_path


def _matches(path: str, name: str, scope: str) -> bool:
    at, _, own = path.rpartition("/")
    return fnmatchcase(own, name) and fnmatchcase(at + "/", scope)


def _check_entry(where: str, path: str, variable: Variable, entry: Later) -> None:
    if entry.shape != variable.shape:
        raise CheckpointMismatch(f"{where}{path} has the shape {entry.shape} there, {variable.shape} here.")
    if entry.dtype != variable.dtype:
        raise CheckpointMismatch(f"{where}{path} has the dtype {entry.dtype} there, {variable.dtype} here.")
