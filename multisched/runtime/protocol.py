"""The contract between the library and a backend.

A backend supplies only what the array API lacks: how arrays are made from the host's and given back, where state lives
and how it is overwritten, how a function is compiled, and how gradients are stopped. `multisched.testing` checks an
adapter against all of it; `multisched_backends.array_api.ArrayApiBackend` implements it for any namespace, and an
adapter overrides what its framework does better.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import numpy as np

from multisched.arrays import Array, Namespace
from multisched.runtime.locks import StateLock

Device = Any
"""A device in the backend's own terms, or its name; None is the default."""

PROTOCOL = 1
"""The version of the contract: it grows when an adapter has to change in order to keep working."""

Parts = tuple[Array, ...]
"""Arrays that together hold one, element by element."""

Step = Callable[..., Parts]
"""A pure function `(parts, value, index, *scalars) -> parts`."""


class Cell:
    """Where the value of one variable lives: `array`, in whichever way the backend overwrites it.

    Nothing outside of the library gets hold of `array`, only of copies. `memo` is for notes of the adapter.
    """

    __slots__ = ("array", "lock", "memo")
    array: Array
    lock: StateLock
    memo: Any

    def __init__(self, array: Array, lock: StateLock):
        self.array = array
        self.lock = lock
        self.memo = None


class Runs(list[list[list[Array]]]):
    """The leaves of several arrays of state, as `Backend.blend` takes them: for each of these, runs of one shape.

    What an adapter notes in `memo` it finds there as long as the leaves are the same arrays, of the same shapes and
    dtypes, in the same places of the memory, and so are the arrays of state; else it is empty.
    """

    def __init__(self, runs: Iterable[list[list[Array]]], memo: dict[str, Any]):
        super().__init__(runs)
        self.memo = memo


class Container(Protocol):
    """How something that the framework has registered as a tree, such as a module, is made of its leaves."""

    names: tuple[str, ...]
    """The leaves by name: a path, with dots; "" for what is a leaf itself."""

    def read(self, node: Any) -> list[Any] | None:
        """The leaves of `node` now; None if they are not these."""

    def rebuild(self, leaves: list[Any]) -> Any:
        """What holds these leaves instead, or a dict of them by name."""


class Part(NamedTuple):
    """What is known of an array of which this process holds a part."""

    kind: str
    """What it is, in words, after "is": "a DTensor, which lies on several processes"."""
    way: str
    """A sentence that says how to save an average of such arrays."""
    owner: str = ""
    """Whose part it is, where neither its shape nor its type tells: "rank 0 of 2"."""
    held: bool = True
    """Whether the part is in the array now; False for one that is empty until it is gathered."""


class Stage(Protocol):
    """Arrays on their way to the host."""

    def put(self, arrays: list[Array]) -> None:
        """Begin to copy arrays, and do not wait; they may be overwritten as soon as this returns."""

    def take(self) -> list[Array]:
        """The copies, once they are there; they are valid until the next `put`."""

    def moved(self, scalar: Any) -> Any:
        """A scalar, which may be an array, on the host; anything else as it is."""


class Backend(Protocol):
    """What every adapter supplies. Dtypes go by the names of the array API standard, and bfloat16.

    An adapter may say with `protocol`, an int, for which version of this contract it was written: an adapter of another
    version than `PROTOCOL` is refused when it is looked up. One that does not say was written for version 1.
    """

    name: str
    """As users write it in `backend=`."""
    xp: Namespace
    """The array API namespace, whose functions the compiled programs call."""
    array_types: tuple[type, ...]
    """Types that a program takes as they are, if shape and dtype are right."""
    scalars_decay: bool
    """Whether operators on 0-d arrays give something that is no array, as NumPy's do."""
    in_place: bool
    """Whether `overwrite` writes into the array of a cell; else it makes the new array that of the cell."""
    sums_unsigned: bool
    """Whether small unsigned integers are summed as unsigned ones; else as integers of the default dtype."""

    @property
    def default_int(self) -> str:
        """The dtype of indices and of sums of small integers: "int64" or "int32"."""

    def supports(self, dtype: str) -> bool:
        """Whether arrays of the dtype can be made, as the framework is configured now."""

    def dtype(self, name: str) -> Any:
        """The framework's dtype of that name."""

    def device(self, device: Device) -> Any:
        """The framework's device for the name; raises `DeviceError` if there is none."""

    def device_of(self, array: Array) -> Any:
        """The device on which an array lies."""

    def owns(self, value: object) -> bool:
        """Whether a value is an array of this backend, or a tracer of one."""

    def is_traced(self, value: object) -> bool:
        """Whether a value is known only to a compiler now."""

    def asarray(self, value: Any, dtype: str, device: Device = None) -> Array:
        """A new array, sharing no memory with `value`, with no gradient: what state is made of."""

    def as_input(self, value: Any, dtype: str, device: Device = None) -> Array:
        """`value` as an array, sharing memory if it can: what programs read."""

    def to_numpy(self, array: Array) -> np.ndarray:
        """A copy on the host."""

    def copy(self, array: Array) -> Array:
        """A copy that shares no memory, and is differentiable where the framework differentiates."""

    def stop_gradient(self, array: Array) -> Array:
        """The same values, through which no gradient flows."""

    def bitcast(self, array: Array, dtype: str) -> Array:
        """The bits of an array of integers or floats, read as others of the same size, also while being compiled.

        Shares memory or does not. Raises `DTypeError` for a dtype of another size.
        """

    def operation(self, name: str) -> Callable[..., Array]:
        """The function of the array API by that name, or `"copy"`."""

    def compile(self, run: Callable[..., Any], consumed: int, jit: bool) -> Callable[..., Any]:
        """`run(*arrays) -> arrays`, made fast; it may consume the first `consumed` of its arguments.

        The library lets it consume none, so that a call which fails or is interrupted leaves the state as it was.
        """

    def overwrite(self, cell: Cell, new: Array) -> None:
        """Make `new` the value of a cell: in place where arrays are mutable, by exchanging the array elsewhere."""

    # --- averages of whole models
    def container(self, node: Any) -> Container | None:
        """How a container of the framework's own is made of its leaves; None for anything else."""

    def signature(self, leaves: list[Any]) -> Any:
        """Equal to that of other leaves only if those are of the same shapes, dtypes and devices; None if not quick."""

    def addresses(self, leaves: list[Any]) -> list[Any] | None:
        """What changes when the same arrays get another shape, dtype, device or place; None to look at each of them."""

    def placed(self, array: Array) -> Hashable:
        """On which device an array lies, or how it is laid out over several: equal for those that lie alike."""

    def pack_key(self, array: Array) -> Hashable | None:
        """Arrays of equal keys may lie in one buffer; None for one that must stay alone, as when it is sharded."""

    def local(self, array: Array) -> Array:
        """The part of an array that lies here, sharing its memory: the array itself unless it is distributed."""

    def part_of(self, array: Array) -> Part | None:
        """What is known of an array of which other processes hold parts; None for one that is whole here.

        An adapter that lacks this method has no such arrays.
        """

    def spread(self, part: Array, like: Array) -> Array:
        """The distributed array whose part here is `part`, laid out as `like`: the inverse of `local`."""

    def blend(self, old: list[Array], new: list[list[list[Array]]], share: Any, where: Any = None) -> list[Array]:
        """`old + share * (new - old)` for each array, in place where arrays are mutable, without a copy of a tree.

        Each array of `old` belongs to runs of leaves in `new`, the leaves of a run of one shape: to one leaf of its own
        shape, or, being flat, to all of them one after another. `share` is a float or a floating scalar array, 1 where
        the value is to be copied; None copies arrays of any dtype. Where `where`, a boolean scalar array, is false,
        all stays as it is. Leaves may be of other dtypes of the kind. `new` may be a `Runs`, with a memo.
        """

    def blend_by(self, step: Step, old: list[Parts], new: list[list[list[Array]]], *scalars: Any) -> list[Parts]:
        """`step(parts, value, index, *scalars)` for each tuple of arrays, as `blend` does: in place, block by block.

        `step` is a pure function of the array API, and hashable. `parts` are of one shape, `value` is what the leaves
        hold, and `index` counts the elements of all arrays, an int32 array that wraps.
        """

    def beside(self, value: Any, like: Array) -> Array:
        """An array of the backend or of NumPy, in the dtype of `like` and where `like` is."""

    def stage(self) -> Stage:
        """What brings arrays to the host; raises `DeviceError` where there is no device "cpu"."""

    def write(self, target: Array, value: Array) -> None:
        """Overwrite an array of the user's in place, out of sight of autograd; a `TypeError` where none can be."""


class Extras(Protocol):
    """What an adapter may have besides what `Backend` asks for. The library looks for each of these by its name.

    Where one is missing, its docstring says what is done instead. The calls that are prepared here, to be made later,
    must be of functions written in C, so that no interrupt comes between two of them; see `multisched.runtime.commit`.
    """

    immutable: bool
    """Whether the values of an array never change, so that the same arrays bring nothing new. Else they may change."""

    def overwriting(self, arrays: Sequence[Array], new: Sequence[Array]) -> Iterable[object]:
        """Where `in_place`: an iterator written in C that overwrites one array at each step, and cannot fail.

        Else `overwrite` is called, and an interrupt may come between two arrays.
        """

    def exchanging(self, run: Callable[..., Any], cells: Sequence[Cell], jit: bool) -> Callable[..., Any]:
        """`compile(run, 0, jit)`, where the first arguments are the arrays of `cells`, and the last results will be.

        It may keep notes in the cells, and write over an array that it made itself and that nobody holds any more.
        Else it is `compile`.
        """

    def unreadable(self, array: Array) -> str | None:
        """Why an array holds no values, such as "it has been deleted"; None if it holds some. Else each does."""

    # --- averages of whole models
    def is_dense(self, array: Array) -> bool:
        """Whether the elements of an array lie in memory as numbers: it is not sparse or quantised. Else each does."""

    def lacking(self, array: Array) -> str:
        """Why an array cannot be averaged as it is now, such as "is lazy and has no shape yet"; "" if it can.

        Else each can.
        """

    def duplicate(self, array: Array) -> Array:
        """A copy of an array of any kind, sparse ones too. Else `copy` makes it."""

    def extent(self, array: Array) -> tuple[int, int] | None:
        """The addresses between which the elements of an array lie; None if it has no memory of its own.

        Else it is not noticed that two leaves share memory.
        """

    # --- writing averages in one step
    def blend_writes(
        self, old: list[Array], new: list[list[list[Array]]], share: Any, where: Any = None
    ) -> list[Callable[[], object]]:
        """Calls that do what `blend` does; after them, `old` has the arrays. Else `blend` is called."""

    def blend_by_writes(
        self, step: Step, old: list[Parts], new: list[list[list[Array]]], *scalars: Any
    ) -> list[Callable[[], object]]:
        """The same for `blend_by`."""

    def writer(self, target: Array, value: Array) -> Callable[[], object]:
        """A call that does what `write` does. Raises at once if that cannot be done. Else `write` is called."""

    def committing(self, targets: Iterable[Array] = ()) -> AbstractContextManager[Any]:
        """The context in which the calls are made; `targets` are arrays of the user's that they write. Else none."""

    def memory(self, array: Array) -> Array:
        """An array that keeps the memory of another one, whatever that is given later. Else the array itself."""

    def reattaching(self, array: Array, memory: Array) -> Callable[[], object] | None:
        """The call that gives an array its `memory` back; None if it still has it. Else each still has it."""

    def renewed(self, array: Array) -> Array:
        """A new array in the place of one that a call has consumed. Else `zeros_like` makes it."""
