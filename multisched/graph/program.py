"""From a graph to a function: the operations that some outputs and updates need, as straight-line Python source.

The program is pure: it takes the values of variables and placeholders, and returns outputs and new values. So the same
source runs eagerly, under a tracer, or inside a compiler. Straight-line code is faster than a walk through the graph at
each call, and users can read it: `f.source`.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, Protocol

import numpy as np

from multisched.errors import MissingInput, listed
from multisched.graph.infer import FRESH
from multisched.graph.tensor import Constant, Op, Placeholder, Tensor

OPERATORS = {
    **{"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "floor_divide": "//", "remainder": "%"},
    **{"pow": "**", "matmul": "@", "bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^"},
    **{"bitwise_left_shift": "<<", "bitwise_right_shift": ">>", "equal": "==", "not_equal": "!="},
    **{"less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">="},
}
_SEQUENCES = ("concat", "stack")


class Run(Protocol):
    """A compiled program: `run(*updated, *read, *inputs) -> (*outputs, *new values of updated)`."""

    source: str
    """The Python code that runs."""

    def __call__(self, *arrays: Any) -> tuple[Any, ...]: ...


def if_given(tensor: Tensor, otherwise: Tensor) -> Op:
    """`tensor` in a function that has all placeholders that it depends on as inputs, `otherwise` in any other."""
    return Op("if_given", (tensor, otherwise), {}, tensor.shape, tensor.dtype, tensor.xp)


Choices = Mapping[Tensor, Tensor]
"""For each `if_given`, the one of its two tensors that is used."""


def ordered(roots: Iterable[Tensor], choices: Choices | None = None) -> list[Tensor]:
    """All tensors that `roots` depend on, each after its own dependencies.

    Without `choices`, an `if_given` depends on both of its tensors.
    """
    done: dict[Tensor, None] = {}
    stack = list(roots)[::-1]
    while stack:
        tensor = stack[-1]
        waiting = [] if tensor in done else [t for t in _needs(tensor, choices) if t not in done]
        if waiting:
            stack += waiting[::-1]
        else:
            done.setdefault(stack.pop())
    return list(done)


def _needs(tensor: Tensor, choices: Choices | None) -> list[Tensor]:
    if choices is not None and tensor in choices:
        return [choices[tensor]]
    return [t for t in tensor.args if isinstance(t, Tensor)] if isinstance(tensor, Op) else []


def _chosen(roots: Iterable[Tensor], inputs: frozenset[Tensor]) -> Choices:
    """The choices in a function of `inputs`: the first tensor of an `if_given` if all its placeholders are inputs."""
    choices: dict[Tensor, Tensor] = {}
    given: dict[Tensor, bool] = {}
    for tensor in ordered(roots):
        if isinstance(tensor, Op) and tensor.fn == "if_given":
            choices[tensor] = tensor.args[0] if given[tensor.args[0]] else tensor.args[1]
        needs = _needs(tensor, choices)
        given[tensor] = tensor in inputs if isinstance(tensor, Placeholder) else all(given[t] for t in needs)
    return choices


class Program:
    """A pure function that computes `outputs` and the values of `updates` from `inputs` and variables."""

    inputs: tuple[Placeholder, ...]
    outputs: tuple[Tensor, ...]
    updated: tuple[Any, ...]
    """The variables that are updated. They are defined in a layer above this one."""
    new: tuple[Tensor, ...]
    """Their new values."""
    read: tuple[Any, ...]
    """The variables that are read and not updated."""
    choices: Choices
    tensors: list[Tensor]
    """All tensors that the program computes or reads, each after its dependencies."""

    def __init__(self, inputs: Sequence[Placeholder], outputs: Sequence[Tensor], updates: Mapping[Any, Tensor]):
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.updated, self.new = tuple(updates), tuple(updates.values())
        given = frozenset(inputs)
        self.choices = _chosen([*self.outputs, *self.new], given)
        self.tensors = ordered([*self.outputs, *self.new], self.choices)
        for tensor in self.tensors:
            if isinstance(tensor, Placeholder) and tensor not in given:
                self._complain_of(tensor)
        self.read = tuple(
            t for t in self.tensors if not isinstance(t, Op | Constant | Placeholder) and t not in updates
        )

    def _complain_of(self, missing: Placeholder) -> NoReturn:
        """Raise the error for a placeholder that is not an input: which update needs it, and how to leave that out."""
        inputs = listed(p.path for p in self.inputs)
        text = f"The outputs or updates depend on {missing}, which is none of the function's inputs: ({inputs})."
        for variable, new in zip(self.updated, self.new, strict=True):
            if missing in set(ordered([new], self.choices)):
                text += (
                    f"\nThe update of {variable} depends on it. get_updates() returns the updates of all variables "
                    "that anything refers to, such as the history of a notebook. For those of one average, write\n"
                    "    updates=ms.get_updates(variables=average.variables)"
                )
                break
        raise MissingInput(text)

    def bind(
        self,
        operation: Callable[[str], Callable[..., Any]],
        dtype: Callable[[str], Any],
        constant: Callable[[np.ndarray, str], Any],
        scalars_decay: bool = False,
        in_place: bool = False,
    ) -> Run:
        """Compile the program for one backend.

        `operation` and `dtype` look up its functions and dtypes by name, and `constant` makes its arrays.
        `scalars_decay` says that its operators turn 0-d arrays into another type, as NumPy's do. `in_place` says that
        new values are written into the old arrays, so they may share memory with them.
        """
        writer = _Writer(self, operation, dtype, constant, scalars_decay, in_place)
        source = writer.write()
        names: dict[str, Any] = dict(writer.bound)
        exec(compile(source, "<multisched program>", "exec"), names)
        run: Run = names.pop("program")  # or it would refer to itself
        run.source = source
        return run


class _Writer:
    """Writes the source of one program, and collects the objects that the source refers to."""

    def __init__(
        self, program: Program, operation: Any, dtype: Any, constant: Any, scalars_decay: bool, in_place: bool
    ):
        self.program, self.operation, self.dtype, self.constant = program, operation, dtype, constant
        self.scalars_decay, self.in_place = scalars_decay, in_place
        self.bound: dict[str, Any] = {}
        self.names: dict[Tensor, str] = {}
        self.sources: dict[Tensor, Tensor] = {}
        """For each `identity` and `if_given`, the tensor whose value it has."""
        self.returned: set[Tensor] = set()

    def write(self) -> str:
        program = self.program
        for group, tensors in (("updated", program.updated), ("read", program.read), ("input", program.inputs)):
            self.names |= {tensor: f"{group}_{i}" for i, tensor in enumerate(tensors)}
        lines = [f"def program({', '.join(self.names.values())}):"]
        for tensor in program.tensors:
            if isinstance(tensor, Op) and tensor.fn in ("identity", "if_given"):
                (other,) = _needs(tensor, program.choices)
                self.sources[tensor] = self._source(other)
        operations = [t for t in program.tensors if isinstance(t, Op) and t not in self.sources]
        uses = {op: [self._source(t) for t in _needs(op, program.choices)] for op in operations}
        last_use = {tensor: op for op, tensors in uses.items() for tensor in tensors}
        kept = {self._source(t) for t in (*program.outputs, *program.new)}
        for op in operations:
            self.names[op] = f"t{len(self.names)}"
            lines.append(f"    {self.names[op]} = {self._expression(op)}")
            spent = [t for t in dict.fromkeys(uses[op]) if isinstance(t, Op) and last_use[t] is op and t not in kept]
            if large := [self.names[t] for t in spent if t.ndim]:  # so that its memory is free at once
                lines.append(f"    del {', '.join(large)}")
        results = [self._output(t) for t in program.outputs]
        results += [self._new(t) if self.in_place else self._output(t) for t in program.new]
        lines.append(f"    return ({', '.join(results)}{',' * (len(results) == 1)})")
        return "\n".join(lines) + "\n"

    def _source(self, tensor: Tensor) -> Tensor:
        """The tensor whose value this one has, past any `identity` and `if_given`."""
        return self.sources.get(tensor, tensor)

    def _expression(self, op: Op) -> str:
        args = self._arguments(op)
        kwargs = "".join(f", {k}={self._bind(v, k == 'dtype')}" for k, v in op.kwargs.items())
        if op.fn == "getitem":
            return f"{args[0]}[{args[1]}]"
        if op.fn in OPERATORS:
            return f"{args[0]} {OPERATORS[op.fn]} {args[1]}"
        function = f"f_{op.fn}"
        self.bound[function] = self.operation(op.fn)
        joined = f"[{', '.join(args)}]" if op.fn in _SEQUENCES else ", ".join(args)
        return f"{function}({joined}{kwargs})"

    def _arguments(self, op: Op) -> list[str]:
        """The arguments, with constants written as Python numbers where that does not change the result."""
        args = [self._source(a) if isinstance(a, Tensor) else a for a in op.args]
        first = 1 if op.fn == "where" else 0
        inlined = set()
        if (op.fn in OPERATORS and op.fn != "matmul") or op.fn == "where":
            numbers = [a for a in args[first:] if isinstance(a, Constant) and a.fill is not None]
            shapes = [a.shape for a in args if not any(a is n for n in numbers)]
            if len(numbers) < 2 and np.broadcast_shapes(*shapes) == op.shape:
                inlined = {id(n) for n in numbers}
        return [self._argument(op, a, id(a) in inlined) for a in args]

    def _argument(self, op: Op, value: Any, inline: bool) -> str:
        if isinstance(value, Constant):
            return self._number(value.fill) if inline else self._constant(value)
        return self.names[value] if isinstance(value, Tensor) else self._bind(value, op.fn == "astype")

    def _number(self, number: Any) -> str:
        finite = not isinstance(number, complex) and math.isfinite(number)
        return repr(number) if finite and number >= 0 else self._bind(number)

    def _constant(self, constant: Constant) -> str:
        if constant not in self.names:
            self.names[constant] = f"c{len(self.names)}"
            self.bound[self.names[constant]] = self.constant(constant.value, constant.dtype)
        return self.names[constant]

    def _bind(self, value: Any, dtype: bool = False) -> str:
        if value is None or value is True or value is False:
            return repr(value)
        name = f"k{len(self.bound)}"
        self.bound[name] = self.dtype(value) if dtype else value
        return name

    def _output(self, tensor: Tensor) -> str:
        """The expression for an output, copied if it may share memory with an input, a variable or another result."""
        source = self._source(tensor)
        fresh = isinstance(source, Op) and source.fn in FRESH and source not in self.returned
        self.returned.add(source)
        return self._leaving(source, copy=not fresh or (self.scalars_decay and source.shape == ()))

    def _new(self, tensor: Tensor) -> str:
        """The expression for a new value, copied if it may share memory with a variable that is written first."""
        source = self._source(tensor)
        apart = isinstance(source, Constant | Placeholder) or (isinstance(source, Op) and source.fn in FRESH)
        return self._leaving(source, copy=not apart)

    def _leaving(self, source: Tensor, *, copy: bool) -> str:
        name = self._constant(source) if isinstance(source, Constant) else self.names[source]
        if not copy:
            return name
        self.bound["f_copy"] = self.operation("copy")
        return f"f_copy({name})"
