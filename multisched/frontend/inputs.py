"""The inputs of a function: the arrays given for its placeholders are checked and cast here.

This is an object of its own because a function refers to its compiled call, and the call refers to the inputs: no cycle
of references keeps a function alive once nobody uses it.
"""

from typing import Any, NoReturn

from multisched.arrays import Array
from multisched.errors import (
    ExtraInput,
    InputShapeError,
    InputTypeError,
    MissingInput,
    MultischedError,
    NotATensor,
    TracedInputError,
    listed,
    shown,
)
from multisched.graph.tensor import Placeholder, Tensor
from multisched.runtime.convert import checked
from multisched.runtime.locks import refuse
from multisched.runtime.protocol import Backend


class Inputs:
    """The placeholders of a function, in the order of its arguments."""

    placeholders: tuple[Placeholder, ...]
    backend: Backend
    device: Any

    def __init__(self, placeholders: tuple[Placeholder, ...], backend: Backend, device: Any):
        self.placeholders, self.backend, self.device = placeholders, backend, device

    def __repr__(self) -> str:
        return f"<function of ({', '.join(p.path for p in self.placeholders)}) on backend {self.backend.name!r}>"

    def all_converted(self, arrays: tuple[Any, ...]) -> list[Array]:
        """The arrays given to the pure form of the function, which may be traced."""
        if len(arrays) != len(self.placeholders):
            self.complain_of_count(arrays)
        return [self.converted(p, array, pure=True) for p, array in zip(self.placeholders, arrays, strict=True)]

    def converted(self, placeholder: Placeholder, value: Any, *, pure: bool = False) -> Array:
        """The array given for a placeholder, cast to its dtype; in pure functions (`pure`) it may be traced."""
        return self.taken(placeholder, value, f"The input for {placeholder}", InputShapeError, InputTypeError, pure)

    def taken(
        self,
        tensor: Tensor,
        value: Any,
        what: str,
        shape_error: type[MultischedError],
        type_error: type[MultischedError],
        pure: bool,
    ) -> Array:
        """The array given for `tensor`, as the program takes it."""
        traced = pure and self.backend.is_traced(value)
        value = checked(
            self.backend,
            value,
            tensor.shape,
            tensor.dtype,
            what=what,
            shape_error=shape_error,
            type_error=type_error,
            traced=traced,
        )
        return self.backend.as_input(value, tensor.dtype, None if traced else self.device)

    def explain(self, error: Exception, arrays: tuple[Any, ...]) -> None:
        """Say so if a program failed because an input has no values, such as a deleted JAX array."""
        for placeholder, value in zip(self.placeholders, arrays, strict=True):
            try:
                self.converted(placeholder, value)
            except InputTypeError as reason:
                raise reason from error

    def refuse(self) -> NoReturn:
        refuse(repr(self))

    def refuse_traced(self, new: Array) -> None:
        """Refuse to write a traced value: a function without inputs was called inside a function that is compiled."""
        if self.backend.is_traced(new):
            raise TracedInputError(
                f"{self!r} was called while a compiler traces the code around it, and would write a traced value into "
                "its variables. Pass the state through instead:  outputs, state = f.pure(state)"
            )

    def complain_of_count(self, arrays: tuple[Any, ...]) -> NoReturn:
        """Raise the error for too few or too many arrays."""
        given, expected = len(arrays), len(self.placeholders)
        paths = listed(p.path for p in self.placeholders)
        takes = f"The function of ({paths}) takes {expected} input{'s' * (expected != 1)} but was given {given}"
        if given < expected:
            missing = ", ".join(map(str, self.placeholders[given : given + 5]))
            more = f" and {expected - given - 5} more" if expected - given > 5 else ""
            raise MissingInput(f"{takes}; it lacks {missing}{more}.")
        extra = listed(
            f"has shape {tuple(a.shape)}" if hasattr(a, "shape") else f"is a {type(a).__name__}"
            for a in arrays[expected:]
        )
        raise ExtraInput(
            f"{takes}; the extra input {extra}. Each input belongs to a placeholder: ms.function(placeholder, ...)."
        )


def checked_inputs(inputs: tuple[Any, ...]) -> tuple[Placeholder, ...]:
    """The inputs of a function, if they are placeholders and all different."""
    seen: set[int] = set()
    for i, placeholder in enumerate(inputs):
        if not isinstance(placeholder, Placeholder):
            raise NotATensor(f"Input {i} of a function must be a placeholder, got {shown(placeholder)}.")
        if id(placeholder) in seen:
            raise ExtraInput(f"Input {i} of the function is given twice: {placeholder}.")
        seen.add(id(placeholder))
    return inputs
