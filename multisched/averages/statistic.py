"""What all statistics have in common: masks, dtypes, and states that carry no gradient.

A subclass is a frozen dataclass, and so plain data. It defines what its state is (`_init`), how a value advances the
state (`_advance`), and how the average is read from it (`_read`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any, ClassVar, ParamSpec, TypeVar

import numpy as np

from multisched.arguments import Reader, checked
from multisched.arrays import (
    BITS,
    Array,
    Namespace,
    averaging_dtype,
    dtype_name,
    int_max,
    is_number,
    kind_of,
    namespace_of,
    stop_gradient,
)
from multisched.errors import DTypeError, MaskError, ShapeError, TimeStepError
from multisched.schedules.catalogue import described
from multisched.schedules.config import to_config
from multisched.schedules.text import pieces

P = ParamSpec("P")
S = TypeVar("S", bound="Statistic")


def statistic(*, examples: Sequence[str], **readers: Reader) -> Callable[[Callable[P, S]], Callable[P, S]]:
    """A decorator for a function that builds a statistic, so that data, expressions and the laws find it.

    Parameters
    ----------
    examples:
        Expressions that build typical ones, such as `"ema(0.9)"`, on which the laws are tested.
    **readers:
        For each parameter, what it takes; see `multisched.arguments`.

    The function raises `ArgumentError` for a keyword that it does not have, and names the nearest one.

    >>> from multisched.averages import ema
    >>> ema(alpha=0.9, debais=True)
    Traceback (most recent call last):
    multisched.errors.ArgumentError: ema() has no argument 'debais'; did you mean 'debias'?
    """
    return checked(examples, readers)


class Statistic:
    """A rule `(state, value) -> (state, output)`, which is pure and plain data.

    `state` is a NamedTuple of arrays, which JAX, torch and optree treat as a pytree. Its structure, shapes and dtypes
    stay the same in each step; fields that a rule does not need are `()`. No gradient flows through a state; `output`
    is differentiable with respect to `value`.
    """

    name: ClassVar[str | None] = None
    """The name of the function that builds the rule, by which data and expressions call it."""
    title: ClassVar[str] = "Statistic"
    """The name of the scope that holds the variables of a declared one, if the declaration gives no other."""
    labels: ClassVar[dict[str, str]] = {}
    """The names of the declared variables, for fields of the state whose variable has another name."""

    def to_config(self) -> dict[str, Any]:
        """The rule as a document for JSON, YAML or TOML, from which `ms.from_config` builds an equal one.

        Raises `ConfigError` if the rule is not in the catalogue, or if an argument is a declared tensor, a complex
        number, or a number that is not finite.

        >>> import multisched as ms
        >>> ms.paced(ms.swa(), every=10).to_config()
        {'name': 'paced', 'rule': {'name': 'swa'}, 'start': 0, 'every': 10}
        """
        return to_config(self)

    def _described(self) -> tuple[str | None, dict[str, Any]]:
        """The name in data of the function that builds this rule, None if there is none, and its arguments."""
        return self.name, self._arguments() if self.name is not None else {}

    def _arguments(self) -> dict[str, Any]:
        """The arguments of the function that builds this rule: its fields, unless a subclass says otherwise."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]  # a dataclass

    def __repr__(self) -> str:
        return "".join(self._pieces())

    def _pieces(self) -> Iterator[str]:
        """What `repr` prints, in pieces, of which an error message takes the first."""
        return pieces(self) if described(self) is not None else iter([object.__repr__(self)])

    def init(self, value: Array, *, elementwise: bool = False, times: bool = False) -> Any:
        """The state before the first update, for values of the shape, dtype and device of `value`.

        With `elementwise=True`, each element has a count of its own, and `step` takes masks of the shape of the value.
        With `times=True`, the state records the time that passes while values are masked, so that `step` takes `dt` and
        a mask together. Raises `TimeStepError` if the `step` of the rule takes no `dt`.
        """
        if is_number(value) or isinstance(value, list | tuple):
            value = np.asarray(value)
            value = np.asarray(value, dtype=np.complex64 if value.dtype.kind == "c" else np.float32)
        xp = namespace_of(value)
        zeros = xp.zeros_like(value, dtype=_averaging(xp, value))
        state = self._init(xp, zeros)
        if times:
            state = self._timed(xp, state)
        return _widened(xp, state, zeros) if elementwise and zeros.ndim else state

    def step(self, state: Any, value: Array, where: Array | None = None) -> tuple[Any, Array]:
        """One update: `(new state, average including value)`.

        `where` is a boolean scalar, traced or not. If it is false, the state stays as it is, with its counters, and the
        output is the average so far. `where` may have the shape of the value if the state was made by
        `init(value, elementwise=True)`.
        """
        return self._step(state, value, where)

    def _step(self, state: Any, value: Array, where: Any, dt: Any = None) -> tuple[Any, Array]:
        if isinstance(where, bool | np.bool_):
            if not where:
                xp = namespace_of(value, state[0])
                return _detached(xp, _copied(xp, state)), self.read(state, value)
            where = None
        xp, value, dtype = self._prepared(state, value)
        new, output = self._advance(xp, state, value, dt)
        if where is not None:
            where = self._checked_mask(state, where)
            new = _keep(xp, where, new, state)
            output = self._read(xp, new, value)
        return _detached(xp, new), xp.astype(output, dtype, copy=True)  # so that it shares no memory with the state

    def read(self, state: Any, value: Array) -> Array:
        """The average so far; before the first update, it is `value`, or the `init` of the rule."""
        xp, value, dtype = self._prepared(state, value)
        output = self._read(xp, state, value)
        return xp.astype(output, dtype) if output.dtype != dtype else output

    def _init(self, xp: Namespace, zeros: Array) -> Any:
        """The state before the first update, for values of the shape of `zeros`, in the dtype of the average."""
        raise NotImplementedError

    def _advance(self, xp: Namespace, state: Any, value: Array, dt: Any = None) -> tuple[Any, Array]:
        """The state after `value`, and the average in it. `dt` is None unless the rule's own `step` takes times."""
        raise NotImplementedError

    def _read(self, xp: Namespace, state: Any, value: Array) -> Array:
        """The average in `state`; before the first update `value`."""
        raise NotImplementedError

    def _timed(self, xp: Namespace, state: Any) -> Any:
        """The state, with a field for the time that passes under a mask."""
        raise TimeStepError(
            f"times=True keeps the time of values that are masked, and {self!r} takes no times: use rule.init(value)."
        )

    def _counter(self, state: Any) -> Array:
        """The part of the state that counts updates, or tells the first one: it has the shape that a mask may have."""
        return state.count if "count" in state._fields else self._template(state)

    def _checked_mask(self, state: Any, where: Any) -> Array:
        """`where`, if it is a boolean scalar, or has the shape of the value and each element has its own count."""
        shape = tuple(getattr(where, "shape", ()))
        if not shape or dtype_name(where.dtype) != "bool" or shape != tuple(self._template(state).shape):
            return checked_mask(where)
        if tuple(self._counter(state).shape) != shape:
            raise MaskError(
                f"where must be a boolean scalar, got the shape {shape} of the value, and this state has one count for "
                "all elements. To mask each by itself, make the state with rule.init(value, elementwise=True)."
            )
        return where

    def _template(self, state: Any) -> Array:
        """An array in `state` that has the shape and dtype of one average."""
        return state.mean

    def _prepared(self, state: Any, value: Array) -> tuple[Namespace, Array, Any]:
        """The namespace, the value in the dtype of the state, and the dtype of the output."""
        xp, template = namespace_of(value, state[0]), self._template(state)
        if is_number(value):
            return xp, xp.full_like(template, value), template.dtype
        if tuple(value.shape) != tuple(template.shape):
            raise ShapeError(
                f"This state of {self!r} averages values of shape {tuple(template.shape)}, got the shape "
                f"{tuple(value.shape)}. A state belongs to one shape: make another with rule.init(value)."
            )
        output = value.dtype if kind_of(dtype_name(value.dtype)) in ("float", "complex") else _averaging(xp, value)
        if value.dtype != template.dtype:
            value = xp.astype(value, template.dtype)
        return xp, value, output


def scalar_like(xp: Namespace, array: Array, value: float | bool, dtype: Any) -> Array:
    """A 0-d array on the device of `array`, and, under `vmap`, one for each of the mapped arrays."""
    if not hasattr(array, "device"):
        return xp.full((), value, dtype=dtype)
    return xp.full_like(xp.sum(array[:0, ...]) if array.ndim else array, value, dtype=dtype)


def zeros_beside(xp: Namespace, zeros: Array, shape: tuple[int, ...]) -> Array:
    """The zeros of an array, broadcast to `shape`, in memory of their own; on its device, and mapped as it is."""
    if not hasattr(zeros, "device"):
        return xp.zeros(shape, dtype=zeros.dtype)
    return xp.zeros_like(xp.broadcast_to(zeros, shape))


def real_dtype(xp: Namespace, array: Array) -> Any:
    """The dtype of the weights that go with `array`: real, and as precise."""
    return {"complex64": xp.float32, "complex128": xp.float64}.get(dtype_name(array.dtype), array.dtype)


def counted(xp: Namespace, count: Array) -> Array:
    """`count + 1`, in int32. At the largest int32 it stays, instead of wrapping."""
    return count + xp.astype(count < int_max("int32"), count.dtype)


def _averaging(xp: Namespace, value: Array) -> Any:
    """The dtype in which a value is averaged."""
    dtype = dtype_name(value.dtype)
    if dtype not in BITS:
        raise DTypeError(f"Values of dtype {dtype} cannot be averaged; expected one of {', '.join(BITS)}.")
    return getattr(xp, averaging_dtype(dtype))


def checked_mask(where: Array) -> Array:
    """`where`, if it is a boolean scalar."""
    if isinstance(where, bool | np.bool_):
        return bool(where)
    if dtype_name(getattr(where, "dtype", type(where))) != "bool" or tuple(where.shape) != ():
        raise MaskError(
            f"where must be a boolean scalar, got {where!r} of dtype {getattr(where, 'dtype', type(where).__name__)} "
            f"and shape {tuple(getattr(where, 'shape', ()))}."
        )
    return where


# --- whole states ----------------------------------------------------------------------------------------------------
def _keep(xp: Namespace, where: Array, new: Any, old: Any) -> Any:
    """The new state where the mask holds, else the old one."""
    return type(new)(
        *(() if isinstance(a, tuple) else xp.where(where, a, b) for a, b in zip(new, old, strict=True)),
    )


def _widened(xp: Namespace, state: Any, zeros: Array) -> Any:
    """The state, with a counter for each element instead of one for all."""
    return type(state)(
        *(
            part
            if isinstance(part, tuple) or tuple(part.shape)
            else xp.astype(xp.broadcast_to(part, zeros.shape), part.dtype, copy=True)
            for part in state
        )
    )


def _copied(xp: Namespace, state: Any) -> Any:
    """The state, in memory of its own."""
    return type(state)(*(part if isinstance(part, tuple) else xp.astype(part, part.dtype, copy=True) for part in state))


def _detached(xp: Namespace, state: Any) -> Any:
    """The state, through which no gradient flows."""
    return type(state)(*(part if isinstance(part, tuple) else stop_gradient(xp, part) for part in state))
