"""A call of a function: it checks the inputs, takes the locks, runs the program, and writes the new values.

The source of the call is generated for each function, as that of the program is: loops over the inputs and variables
would take as long as the call of a compiled function itself.

Everything that can fail comes before the first write. The new values are then written by one call of a C function or,
where arrays are exchanged, by one assignment. Python handles no signal within either.
"""

from collections.abc import Callable, Sequence
from typing import Any

from multisched.frontend.inputs import Inputs
from multisched.frontend.variables import Variable
from multisched.runtime.commit import overwriting_of
from multisched.runtime.locks import MOST, are_held, holding, in_order
from multisched.runtime.protocol import Cell, exhaust


def write_call(
    inputs: Inputs, updated: Sequence[Variable], read: Sequence[Variable], run: Callable[..., Any], outputs: int
) -> Callable[[tuple[Any, ...]], Any]:
    """Generate `call(arrays) -> outputs`, which runs a function's program `run` and writes its new values.

    A single output is returned as it is, several as a tuple.
    """
    backend, cells = inputs.backend, [v.cell for v in (*updated, *read)]
    locks = in_order(cell.lock for cell in cells)
    names: dict[str, Any] = {
        "run": run,
        "types": backend.array_types,
        "overwriting": overwriting_of(backend),
        "overwrite": backend.overwrite,
        "exhaust": exhaust,
        "complain": inputs.complain_of_count,
        "convert": inputs.converted,
        "explain": inputs.explain,
        "refuse": inputs.refuse,
        "refuse_traced": inputs.refuse_traced,
        "are_held": are_held,
        "holding": holding,
        "locks": locks,
        **{f"lock_{i}": lock for i, lock in enumerate(locks)},
    }
    body, result = _body(inputs, cells, len(updated), names, outputs)
    lines = ["def call(arrays):", *_taking(inputs, names)]
    if updated:  # a call that only reads is allowed during another call
        names |= {"owned_0": locks[0]._is_owned, "owned": [lock._is_owned for lock in locks]}
        lines.append("    if owned_0(): refuse()" if len(locks) == 1 else "    if are_held(owned): refuse()")
    # The `try` is around the `with`: an interrupt at a `try:` that is the first line inside a `with` skips `__exit__`.
    if 0 < len(locks) <= MOST:
        lines += ["    try:", f"        with {', '.join(f'lock_{i}' for i in range(len(locks)))}:", *body]
    else:
        lines += ["    def locked():", *(line[4:] for line in body), f"        return {result}"]
        lines += ["    try:", f"        {result} = holding(locks, locked)"]
    lines += [
        "    except Exception as error:",
        "        explain(error, arrays)",
        "        raise",
        f"    return {result}",
    ]
    exec(compile("\n".join(lines) + "\n", "<multisched call>", "exec"), names)
    call: Callable[[tuple[Any, ...]], Any] = names.pop("call")  # or it would refer to itself
    return call


def _taking(inputs: Inputs, names: dict[str, Any]) -> list[str]:
    """The lines that check the inputs, and cast those that need it."""
    given = _numbered("input", len(inputs.placeholders))
    lines = [f"    if len(arrays) != {len(given)}: complain(arrays)"]
    if given:
        lines.append(f"    {', '.join(given)}, = arrays")
    for i, (name, placeholder) in enumerate(zip(given, inputs.placeholders, strict=True)):
        names |= {f"dtype_{i}": inputs.backend.dtype(placeholder.dtype), f"placeholder_{i}": placeholder}
        lines += [
            f"    if type({name}) not in types or {name}.dtype != dtype_{i} or {name}.shape != {placeholder.shape}:",
            f"        {name} = convert(placeholder_{i}, {name})",
        ]
    return lines


def _numbered(name: str, count: int) -> list[str]:
    return [f"{name}_{i}" for i in range(count)]


def _body(
    inputs: Inputs, cells: Sequence[Cell], updated: int, names: dict[str, Any], outputs: int
) -> tuple[list[str], str]:
    """The lines that run the program and write the new values, indented by two blocks, and the returned expression."""
    backend = inputs.backend
    names |= {f"cell_{i}": cell for i, cell in enumerate(cells)}
    results, new = _numbered("output", outputs), _numbered("new", updated)
    given = _numbered("input", len(inputs.placeholders))
    targets = f"{', '.join([*results, *new])}, = " if results or new else ""
    lines = [f"            {targets}run({', '.join([*(f'cell_{i}.array' for i in range(len(cells))), *given])})"]
    arrays = ", ".join(f"cell_{i}.array" for i in range(len(new)))
    if new and not backend.in_place:
        lines.append("            if type(new_0) not in types: refuse_traced(new_0)")  # as inside of jax.jit
        lines.append(f"            {arrays}, = {', '.join(new)},")
    elif len(new) == 1:
        lines.append("            overwrite(cell_0, new_0)")
    elif new and overwriting_of(backend):
        lines.append(f"            exhaust(overwriting(({arrays},), ({', '.join(new)},)))")
    elif new:
        old = ", ".join(f"cell_{i}" for i in range(len(new)))
        lines.append(f"            exhaust(map(overwrite, ({old},), ({', '.join(new)},)))")
    return lines, ", ".join(results) or "()"
