"""The contract between the library and a backend.

A backend supplies only what the array API lacks: how arrays go from the host to the framework and back, where state
lives and how it is overwritten, how a function is compiled, and how gradients are stopped. `multisched.testing` checks
an adapter against the whole contract. `multisched_backends.array_api.ArrayApiBackend` implements it for any namespace;
an adapter overrides what its framework does better.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import numpy as np

from multisched.arrays import Array, Namespace
from multisched.runtime.locks import StateLock

Device = Any
"""A device of the framework, or its name; None is the default device."""

PROTOCOL = 1
"""The version of the contract. It grows when adapters must change in order to keep working."""

Parts = tuple[Array, ...]
"""Arrays that together represent one array, element by element."""

Step = Callable[..., Parts]
"""A pure function `(parts, value, index, *scalars) -> parts`."""

Write = Callable[[], object]
"""A C function with its arguments, such as `partial(setitem, array, ..., new)`: no interrupt comes within it."""

exhaust: Callable[[Iterable[object]], None] = deque[object](maxlen=0).extend
"""Runs through an iterator in C, and keeps nothing of it."""

LeafRuns = list[list[list[Array]]]
"""The leaves for several arrays of state: for each array, runs of leaves of equal shapes."""


class Cell:
    """The place in which the value of one variable lives.

    Users never get `array` itself, only copies. `memo` is for notes of the adapter.
    """

    __slots__ = ("array", "lock", "memo")
    array: Array
    lock: StateLock
    memo: Any

    def __init__(self, array: Array, lock: StateLock):
        self.array = array
        self.lock = lock
        self.memo = None


class RunsWithMemo(LeafRuns):
    """The leaves for several arrays of state, as `Backend.blend` takes them, with a memo for the adapter.

    An adapter may keep notes in `memo`. It finds them there as long as the leaves and the arrays of state are the same
    arrays, of the same shapes and dtypes and at the same addresses; else `memo` is empty.
    """

    def __init__(self, runs: Iterable[list[list[Array]]], memo: dict[str, Any]):
        super().__init__(runs)
        self.memo = memo


class Container(Protocol):
    """How a container of the framework, such as a module, consists of its leaves."""

    names: tuple[str, ...]
    """The names of the leaves: paths with dots, or "" for a container that is a leaf itself."""

    def read(self, node: Any) -> list[Any] | None:
        """The current leaves of `node`, or None if they no longer have these names."""

    def rebuild(self, leaves: list[Any]) -> Any:
        """A container with these leaves instead, or a dict of them by name."""


class Part(NamedTuple):
    """What is known about an array of which this process holds a part."""

    kind: str
    """What the array is, to follow the word "is": "a DTensor, which lies on several processes"."""
    way: str
    """A sentence that says how to save an average of such arrays."""
    owner: str = ""
    """Whose part it is, if neither its shape nor its type shows it: "rank 0 of 2"."""
    held: bool = True
    """Whether the array holds the part now. It is False for an array that is empty until it is gathered."""


class Stage(Protocol):
    """Copies arrays to the host in the background."""

    def put(self, arrays: list[Array]) -> None:
        """Begin to copy arrays without waiting. They may be overwritten as soon as this returns."""

    def take(self) -> list[Array]:
        """Wait for the copies and return them. They are valid until the next `put`."""

    def moved(self, scalar: Any) -> Any:
        """A scalar array as an array on the host; anything else as it is."""


class Backend(Protocol):
    """What every adapter supplies. Dtypes are given by their names in the array API standard, and "bfloat16".

    An adapter may have an attribute `protocol`, an int: the version of this contract for which it was written. Without
    it, that is version 1. An adapter for another version than `PROTOCOL` is refused when it is looked up.
    """

    name: str
    """The name that users write in `backend=`."""
    xp: Namespace
    """The array API namespace, whose functions the compiled programs call."""
    array_types: tuple[type, ...]
    """The types of arrays that a program takes without conversion, if shape and dtype are right."""
    scalars_decay: bool
    """Whether operators on 0-dimensional arrays give something that is not an array, as NumPy's do."""
    in_place: bool
    """Whether `overwrite` writes into the array of a cell; else it replaces the array by the new one."""
    sums_unsigned: bool
    """Whether sums of small unsigned integers are unsigned; else they have the default integer dtype."""

    @property
    def default_int(self) -> str:
        """The dtype of indices and of sums of small integers: "int64" or "int32"."""

    def supports(self, dtype: str) -> bool:
        """Whether arrays of the dtype can be made in the current configuration of the framework."""

    def dtype(self, name: str) -> Any:
        """The framework's dtype of that name."""

    def device(self, device: Device) -> Any:
        """The framework's device of that name. Raises `DeviceError` if there is none."""

    def device_of(self, array: Array) -> Any:
        """The device on which an array lies."""

    def owns(self, value: object) -> bool:
        """Whether a value is an array of this backend, or a tracer for one."""

    def is_traced(self, value: object) -> bool:
        """Whether a value is a tracer, known only while a compiler runs."""

    def asarray(self, value: Any, dtype: str, device: Device = None) -> Array:
        """A new array for state: it shares no memory with `value`, and has no gradient."""

    def as_input(self, value: Any, dtype: str, device: Device = None) -> Array:
        """The value as an input of programs: an array that shares memory with it if possible."""

    def to_numpy(self, array: Array) -> np.ndarray:
        """A copy on the host."""

    def copy(self, array: Array) -> Array:
        """A copy that shares no memory. Gradients flow through it if the framework has them."""

    def stop_gradient(self, array: Array) -> Array:
        """The same values, without a gradient."""

    def bitcast(self, array: Array, dtype: str) -> Array:
        """The bits of an array of integers or floats, read as another dtype of the same size.

        It must work while being compiled, and may share memory. Raises `DTypeError` for a dtype of another size.
        """

    def operation(self, name: str) -> Callable[..., Array]:
        """The function of the array API with that name, or `copy`."""

    def compile(self, run: Callable[..., Any], consumed: int, jit: bool) -> Callable[..., Any]:
        """Compile `run(*arrays) -> arrays`. The result may consume the first `consumed` of its arguments.

        The library always passes 0, so that a call that fails or is interrupted leaves the state as it was.
        """

    def overwrite(self, cell: Cell, new: Array) -> None:
        """Make `new` the value of a cell: in place if arrays are mutable, else by replacing the array."""

    # --- averages of whole models
    def container(self, node: Any) -> Container | None:
        """How a container of the framework consists of its leaves; None for anything else."""

    def signature(self, leaves: list[Any]) -> Any:
        """A value that is equal only for leaves of the same shapes, dtypes and devices; None if that is not fast."""

    def addresses(self, leaves: list[Any]) -> list[Any] | None:
        """Values that change if an array gets another shape, dtype, device or address; None to check each array."""

    def placed(self, array: Array) -> Hashable:
        """The device of an array, or its layout over several devices: equal for arrays that are placed alike."""

    def pack_key(self, array: Array) -> Hashable | None:
        """Arrays of equal keys may share one buffer; None for an array that must not, such as a sharded one."""

    def local(self, array: Array) -> Array:
        """The part of an array that is held here, sharing its memory: the array itself unless it is distributed."""

    def part_of(self, array: Array) -> Part | None:
        """What is known about an array of which other processes hold parts; None for an array that is whole here.

        An adapter for a framework without such arrays may lack this method.
        """

    def spread(self, part: Array, like: Array) -> Array:
        """The distributed array with the layout of `like` whose local part is `part`: the inverse of `local`."""

    def blend(self, old: list[Array], new: LeafRuns, share: Any, where: Any = None) -> list[Array]:
        """`old + share * (new - old)` for each array, in place if arrays are mutable, without a copy of a tree.

        Each array of `old` corresponds to runs of leaves in `new`; the leaves of a run have one shape. Either there is
        one leaf, of the shape of the array, or the array is flat and holds all leaves one after another. `share` is a
        float or a floating scalar array; at 1 the values are copied. A share of None copies arrays of any dtype. If
        `where`, a boolean scalar array, is false, nothing changes. Leaves may have other dtypes of the same kind. `new`
        may be a `RunsWithMemo`.
        """

    def blend_by(self, step: Step, old: list[Parts], new: LeafRuns, *scalars: Any) -> list[Parts]:
        """Apply `step(parts, value, index, *scalars)` to each tuple of arrays, in place and block by block, as `blend`.

        `step` is a pure and hashable function of the array API. `parts` have one shape, `value` holds the values of the
        leaves, and `index`, an int32 array that wraps around, numbers the elements of all arrays.
        """

    def beside(self, value: Any, like: Array) -> Array:
        """An array of the backend or of NumPy, with the dtype of `like` and on its device."""

    def stage(self) -> Stage:
        """An object that copies arrays to the host. Raises `DeviceError` if there is no device "cpu"."""

    def write(self, target: Array, value: Array) -> None:
        """Overwrite an array of the user in place, unseen by autograd. Raises `TypeError` if arrays are immutable."""


class Extras(Protocol):
    """What an adapter may have besides the methods of `Backend`. The library looks for each by its name.

    The docstrings say what the library does without it. Methods that prepare calls for later must return calls of C
    functions, so that no interrupt comes between two of them; see `multisched.runtime.commit`.
    """

    immutable: bool
    """Whether the values of an array never change. Without it, the library assumes that they may change."""

    def overwriting(self, arrays: Sequence[Array], new: Sequence[Array]) -> Iterable[object]:
        """If `in_place`: an iterator implemented in C that overwrites one array at each step, and cannot fail.

        Without it, `overwrite` is called, and an interrupt may come between two arrays.
        """

    def exchanging(self, run: Callable[..., Any], cells: Sequence[Cell], jit: bool) -> Callable[..., Any]:
        """Compile `run` like `compile(run, 0, jit)`; its first arguments, and last results, are the arrays of `cells`.

        It may keep notes in the cells, and may overwrite an array that it made itself and that nothing refers to any
        more. Without it, `compile` is called.
        """

    def unreadable(self, array: Array) -> str | None:
        """Why an array has no values, such as "it has been deleted", or None. Without it, every array has values."""

    # --- averages of whole models
    def is_dense(self, array: Array) -> bool:
        """Whether an array is neither sparse nor quantised. Without it, every array is dense."""

    def lacking(self, array: Array) -> str:
        """Why an array cannot be averaged now, such as "is lazy and has no shape yet"; "" if it can be.

        Without it, every array can be averaged.
        """

    def duplicate(self, array: Array) -> Array:
        """A copy of an array of any kind, also of a sparse one. Without it, `copy` is called."""

    def extent(self, array: Array) -> tuple[int, int] | None:
        """The addresses between which the elements of an array lie; None if it has no memory of its own.

        Without it, the library does not notice that two leaves share memory.
        """

    # --- writing averages in one step
    def blend_writes(self, old: list[Array], new: LeafRuns, share: Any, where: Any = None) -> list[Write]:
        """Calls that do what `blend` does: after them, `old` has the new values. Without it, `blend` is called."""

    def blend_by_writes(self, step: Step, old: list[Parts], new: LeafRuns, *scalars: Any) -> list[Write]:
        """Calls that do what `blend_by` does. Without it, `blend_by` is called."""

    def writer(self, target: Array, value: Array) -> Write:
        """A call that does what `write` does. Raises now if it cannot be done. Without it, `write` is called."""

    def committing(self, targets: Iterable[Array] = ()) -> AbstractContextManager[Any]:
        """The context in which the calls must be made; `targets` are arrays of the user that they write.

        Without it, they are made in no context.
        """

    def memory(self, array: Array) -> Array:
        """An array that keeps the memory of another one, whichever memory that gets later. Without it, the array."""

    def reattaching(self, array: Array, memory: Array) -> Write | None:
        """The call that gives an array its `memory` back; None if it still has it, which is assumed without this."""

    def renewed(self, array: Array) -> Array:
        """A new array in place of one that a call has consumed. Without it, `zeros_like` is called."""
