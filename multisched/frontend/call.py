"""The way in and out of a compiled program: check the inputs, hold the locks, run, write the new values.

It is written out for each function, as the program is: the loops over inputs and variables would cost as much again as
a call of a compiled function does.

Everything that can fail comes before the first write. The new values are then written by one call of a C function, or,
where arrays are exchanged, by one assignment: no signal is handled within either.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from multisched.runtime.commit import exhaust, overwriting_of
from multisched.runtime.locks import MOST, are_held, holding, in_order

if TYPE_CHECKING:
    from multisched.frontend.function import Function


def write_call(function: "Function", run: Callable[..., Any], outputs: int) -> Callable[[tuple[Any, ...]], Any]:
    """`call(arrays) -> outputs` for the stateful use of a function, whose program is `run`; one output comes alone."""
    locks = in_order(v.cell.lock for v in (*function.updated, *function.read))
    names: dict[str, Any] = {
        **{"run": run, "types": function.backend.array_types},
        **{"overwriting": overwriting_of(function.backend), "overwrite": function.backend.overwrite},
        **{"exhaust": exhaust},
        **{"complain": function.complain_of_count, "convert": function.converted, "explain": function.explain},
        **{"refuse": function.refuse, "are_held": are_held, "holding": holding, "locks": locks},
        **{f"lock_{i}": lock for i, lock in enumerate(locks)},
    }
    body, result = _body(function, names, outputs)
    lines = ["def call(arrays):", *_taking(function, names)]
    if function.updated and locks:  # a call that only reads may come in the middle of another
        names |= {"owned_0": locks[0]._is_owned, "owned": [lock._is_owned for lock in locks]}
        lines.append("    if owned_0(): refuse()" if len(locks) == 1 else "    if are_held(owned): refuse()")
    if 0 < len(locks) <= MOST:
        lines += [f"    with {', '.join(f'lock_{i}' for i in range(len(locks)))}:", *body, result]
    else:
        lines += ["    def locked():", *body, f"    {result}", "    return holding(locks, locked)"]
    exec(compile("\n".join(lines) + "\n", "<multisched call>", "exec"), names)
    call: Callable[[tuple[Any, ...]], Any] = names["call"]
    return call


def _taking(function: "Function", names: dict[str, Any]) -> list[str]:
    """The lines that take the inputs, cast where they have to be."""
    inputs = [f"input_{i}" for i in range(len(function.inputs))]
    lines = [f"    if len(arrays) != {len(inputs)}: complain(arrays)"]
    if inputs:
        lines.append(f"    {', '.join(inputs)}, = arrays")
    for i, (name, placeholder) in enumerate(zip(inputs, function.inputs, strict=True)):
        names |= {f"dtype_{i}": function.backend.dtype(placeholder.dtype), f"placeholder_{i}": placeholder}
        lines += [
            f"    if type({name}) not in types or {name}.dtype != dtype_{i} or {name}.shape != {placeholder.shape}:",
            f"        {name} = convert(placeholder_{i}, {name})",
        ]
    return lines


def _body(function: "Function", names: dict[str, Any], outputs: int) -> tuple[list[str], str]:
    """The lines that run the program and write the new values, to stand in a block, and the line that returns."""
    cells = [v.cell for v in (*function.updated, *function.read)]
    names |= {f"cell_{i}": cell for i, cell in enumerate(cells)}
    results = [f"output_{i}" for i in range(outputs)]
    new = [f"new_{i}" for i in range(len(function.updated))]
    inputs = [f"input_{i}" for i in range(len(function.inputs))]
    targets = f"{', '.join([*results, *new])}, = " if results or new else ""
    lines = [
        "        try:",
        f"            {targets}run({', '.join([*(f'cell_{i}.array' for i in range(len(cells))), *inputs])})",
        "        except Exception as error:",
        "            explain(error, arrays)",
        "            raise",
    ]
    arrays = ", ".join(f"cell_{i}.array" for i in range(len(new)))
    if new and not function.backend.in_place:
        lines.append(f"        {arrays}, = {', '.join(new)},")
    elif len(new) == 1:
        lines.append("        overwrite(cell_0, new_0)")
    elif new and overwriting_of(function.backend):
        lines.append(f"        exhaust(overwriting(({arrays},), ({', '.join(new)},)))")
    elif new:
        old = ", ".join(f"cell_{i}" for i in range(len(new)))
        lines.append(f"        exhaust(map(overwrite, ({old},), ({', '.join(new)},)))")
    return lines, f"    return {', '.join(results) or '()'}"
