"""The inputs of a function: what is given for its placeholders, checked, cast, and complained of in words.

They are apart from the function, which refers to its compiled call, and the call to them: so no cycle keeps a function
alive when nobody holds it any more.
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

    def __init__(self, placeholders: tuple[Placeholder, ...], backend: Backend, device: Any):
        self.placeholders, self.backend, self.device = placeholders, backend, device

    def __repr__(self) -> str:
        return f"<function of ({', '.join(p.path for p in self.placeholders)}) on backend {self.backend.name!r}>"

    def converted(self, placeholder: Placeholder, value: Any, *, pure: bool = False) -> Array:
        """`value` for a placeholder; `pure` says that it may be traced."""
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
        """`value` where the program expects `tensor`."""
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
        """Where a program failed since an input holds no values, as a deleted array of JAX does, say so."""
        for placeholder, value in zip(self.placeholders, arrays, strict=True):
            try:
                self.converted(placeholder, value)
            except InputTypeError as reason:
                raise reason from error

    def refuse(self) -> NoReturn:
        refuse(repr(self))

    def refuse_traced(self, new: Array) -> None:
        """A function without inputs that is called inside of a compiled one must not write what only that one knows."""
        if self.backend.is_traced(new):
            raise TracedInputError(
                f"{self!r} was called inside of a function that a compiler traces, and would write a traced value into "
                "its variables. Hand the state through instead:  outputs, state = f.pure(state)"
            )

    def complain_of_count(self, arrays: tuple[Any, ...]) -> NoReturn:
        given, expected = len(arrays), len(self.placeholders)
        takes = f"{self!r} takes {expected} inputs, got {given}"
        if given < expected:
            missing = ", ".join(map(str, self.placeholders[given : given + 5]))
            more = f" and {expected - given - 5} more" if expected - given > 5 else ""
            raise MissingInput(f"{takes}: missing {missing}{more}.")
        extra = listed(
            f"shape {tuple(a.shape)}" if hasattr(a, "shape") else type(a).__name__ for a in arrays[expected:]
        )
        raise ExtraInput(f"{takes}: the last ({extra}) has no placeholder. Name it in ms.function.")


def checked_inputs(inputs: tuple[Any, ...]) -> tuple[Placeholder, ...]:
    """`inputs`, which must be different placeholders."""
    seen: set[int] = set()
    for i, placeholder in enumerate(inputs):
        if not isinstance(placeholder, Placeholder):
            raise NotATensor(f"Input {i} of a function must be a placeholder, got {shown(placeholder)}.")
        if id(placeholder) in seen:
            raise ExtraInput(f"Input {i} of the function is there twice: {placeholder}.")
        seen.add(id(placeholder))
    return inputs
