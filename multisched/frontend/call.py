"""The way in and out of a compiled program: check the inputs, hold the locks, run, write the new values.

It is written out for each function, as the program is: the loops over inputs and variables would cost as much again as
a call of a compiled function does.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multisched.frontend.function import Function


def write_call(function: "Function", run: Callable[..., Any], outputs: int) -> Callable[[tuple[Any, ...]], Any]:
    """`call(arrays) -> outputs` for the stateful use of a function, whose program is `run`; one output comes alone."""
    backend = function.backend
    names: dict[str, Any] = {
        "run": run,
        "types": backend.array_types,
        "complain": function.complain_of_count,
        "convert": function.converted,
        "overwrite": backend.overwrite,
    }
    lines = ["def call(arrays):"]
    inputs = [f"input_{i}" for i in range(len(function.inputs))]
    lines.append(f"    if len(arrays) != {len(inputs)}: complain(arrays)")
    if inputs:
        lines.append(f"    {', '.join(inputs)}, = arrays")
    for i, (name, placeholder) in enumerate(zip(inputs, function.inputs, strict=True)):
        names |= {f"dtype_{i}": backend.dtype(placeholder.dtype), f"placeholder_{i}": placeholder}
        lines += [
            f"    if type({name}) not in types or {name}.dtype != dtype_{i} or {name}.shape != {placeholder.shape}:",
            f"        {name} = convert(placeholder_{i}, {name})",
        ]
    cells = [v.cell for v in (*function.updated, *function.read)]
    names |= {f"cell_{i}": cell for i, cell in enumerate(cells)}
    locks = sorted({cell.lock for cell in cells}, key=lambda lock: lock.serial)
    names |= {f"lock_{i}": lock.lock for i, lock in enumerate(locks)}
    lines.append(f"    with {', '.join(f'lock_{i}' for i in range(len(locks)))}:" if locks else "    if True:")
    results = [f"output_{i}" for i in range(outputs)]
    new = [f"new_{i}" if backend.in_place else f"cell_{i}.array" for i in range(len(function.updated))]
    arguments = [*(f"cell_{i}.array" for i in range(len(cells))), *inputs]
    targets = f"{', '.join([*results, *new])}, = " if results or new else ""
    lines.append(f"        {targets}run({', '.join(arguments)})")
    if backend.in_place:
        lines += [f"        overwrite(cell_{i}, {name})" for i, name in enumerate(new)]
    lines.append(f"    return {', '.join(results) or '()'}")
    exec(compile("\n".join(lines) + "\n", "<multisched call>", "exec"), names)
    call: Callable[[tuple[Any, ...]], Any] = names["call"]
    return call
