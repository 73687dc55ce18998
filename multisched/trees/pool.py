"""The arrays that hold the averages of leaves, small ones packed together."""

from collections.abc import Sequence
from functools import partial
from math import prod
from operator import itemgetter, setitem
from typing import Any

from multisched.arrays import LARGEST_SHARE, LEAST_SHARE, Array, dtype_name, exact_share
from multisched.runtime.protocol import Backend, RunsWithMemo, Write
from multisched.trees.leaf import is_deleted
from multisched.trees.packing import LARGEST, LARGEST_EXCHANGED, Group, grouped
from multisched.trees.rounding import Rounding
from multisched.trees.writes import blending, blending_by


class Pool:
    """Arrays on a backend, one for each group of leaves; several that add up, where a `Rounding` has parts."""

    rounding: Rounding | None
    dtypes: tuple[str, ...]
    """The dtype in which each leaf is held."""
    like: list[Array | None]
    """The distributed array that each leaf is like; None for one that lies here whole."""
    distributed: bool
    """Whether a leaf is like a distributed array."""
    groups: list[Group]
    arrays: list[Array]
    """One array for each group."""
    rests: list[list[Array]]
    """What rounding keeps besides, likewise."""

    def __init__(
        self,
        backend: Backend,
        leaves: Sequence[Array],
        dtypes: Sequence[str],
        device: Any = None,
        rounding: Rounding | None = None,
    ):
        self._backend = backend
        self.rounding = rounding
        self.dtypes = tuple(dtypes)
        here = [backend.local(leaf) for leaf in leaves]
        self._shapes = [tuple(part.shape) for part in here]
        self.like = [leaf if leaf is not part else None for leaf, part in zip(leaves, here, strict=True)]
        self.distributed = any(like is not None for like in self.like)
        keys = [backend.pack_key(leaf) for leaf in leaves]
        packed = [None if k is None else (k, d) for k, d in zip(keys, dtypes, strict=True)]
        self.groups = grouped(self._shapes, packed, LARGEST if backend.in_place else LARGEST_EXCHANGED)
        self.arrays = [self._initial(group, here, device) for group in self.groups]
        self.rests = [
            [self._lasting(backend.xp.zeros_like(a), dtype_name(a.dtype)) for a in self.arrays]
            for _ in range(rounding.parts - 1 if rounding else 0)
        ]
        self._splits: dict[tuple[str, ...], Any] = {}

    def _initial(self, group: Group, parts: Sequence[Array], device: Any) -> Array:
        made = [self._backend.asarray(parts[i], self.dtypes[i], device) for i in group.leaves]
        xp = self._backend.xp
        if not group.packed:
            return made[0]
        joined = xp.concat([xp.reshape(array, (-1,)) for array in made])
        return self._lasting(joined, self.dtypes[group.leaves[0]])

    def _lasting(self, array: Array, dtype: str) -> Array:
        """A copy that can still be written when a mode that is on now, as that of torch for inference, has ended."""
        return self._backend.asarray(array, dtype)

    # --- writing
    def blending(
        self,
        leaves: Sequence[Array],
        share: Any,
        where: Any = None,
        key: Any = None,
        memo: dict[str, Any] | None = None,
    ) -> list[Write]:
        """The writes that blend a value for each leaf into the average; a share of None copies. `key` is for rounding.

        `memo` has the notes of the adapter about leaves at the same addresses, see `RunsWithMemo`.
        """
        if not self.groups:
            return []
        if isinstance(share, float) and not LEAST_SHARE <= share < LARGEST_SHARE:
            exact = {exact_share(share, dtype) for dtype in self.dtypes}
            if len(exact) > 1:
                return self._blending_apart(leaves, share, where)
            share = exact.pop()
        if isinstance(share, float) and share == 0:
            return []
        memo = {} if memo is None else memo
        if self.rounding is None:
            return blending(self._backend, self.arrays, RunsWithMemo(self._local_runs(leaves), memo), share, where)
        parts = list(zip(self.arrays, *self.rests, strict=True))
        runs = RunsWithMemo(self._runs(leaves), memo)
        writes = blending_by(self._backend, self.rounding, parts, runs, share, where, key)
        return [*writes, *(_column(held, parts, i) for i, held in enumerate((self.arrays, *self.rests)))]

    def _blending_apart(self, leaves: Sequence[Array], share: float, where: Any) -> list[Write]:
        """The writes for a share that is 0 or 1 in some of the dtypes of the pool, and not in others."""
        writes: list[Write] = []
        for i, runs in enumerate(self._local_runs(leaves)):
            exact = exact_share(share, self.dtypes[self.groups[i].leaves[0]])
            if exact:
                one = self.arrays[i : i + 1]
                writes += blending(self._backend, one, [runs], exact, where)
                writes.append(partial(setitem, self.arrays, slice(i, i + 1), one))
        return writes

    def _runs(self, leaves: Sequence[Array]) -> list[list[list[Array]]]:
        """The leaves in the order and the runs of the groups."""
        return [[[leaves[i] for i in run] for run in group.runs] for group in self.groups]

    def _local_runs(self, leaves: Sequence[Array]) -> list[list[list[Array]]]:
        """The same, with the local part of each leaf."""
        return self._runs([self._backend.local(leaf) for leaf in leaves] if self.distributed else leaves)

    def _alike(self) -> bool:
        """Whether one compiled function may take all arrays: some frameworks refuse those of several devices."""
        return len({self._backend.placed(array) for array in self.arrays}) == 1

    def loading(self, parts: Sequence[Sequence[Array]]) -> list[Write]:
        """The writes that load arrays for each leaf: of the average, and of what rounding took from it."""
        each = zip([self.arrays, *self.rests], parts, strict=True)
        return [write for held, leaves in each for write in blending(self._backend, held, self._runs(leaves), None)]

    @property
    def all(self) -> list[Array]:
        """All arrays that are held now."""
        return [array for held in (self.arrays, *self.rests) for array in held]

    def renew(self) -> None:
        """Replace arrays that a failed call has consumed by new ones; their values are lost."""
        renewed = getattr(self._backend, "renewed", self._backend.xp.zeros_like)
        for held in (self.arrays, *self.rests):
            held[:] = [renewed(array) if is_deleted(array) else array for array in held]

    # --- reading
    def views(self) -> list[Array]:
        """The average of each leaf, or of its local part. Shares memory with the pool where possible."""
        arrays = self.arrays
        if self.rounding is not None:
            arrays = [self.rounding.value(parts) for parts in zip(self.arrays, *self.rests, strict=True)]
        return self.taken_apart(arrays)

    def taken_apart(self, arrays: Sequence[Array]) -> list[Array]:
        """The arrays of the groups, taken apart into one array for each leaf."""
        xp = self._backend.xp
        found: dict[int, Array] = {}
        for array, group in zip(arrays, self.groups, strict=True):
            at = 0
            for i in group.leaves:
                size = prod(self._shapes[i])
                found[i] = xp.reshape(array[at : at + size], self._shapes[i]) if group.packed else array
                at += size
        return [found[i] for i in range(len(found))]

    def read(self, dtypes: Sequence[str] | None = None) -> list[Array]:
        """A copy of the average of each leaf, distributed as the leaf is.

        `dtypes` are those of the copies. Default: those in which the average is held, or float32 for a rounded one.
        """
        if not self.groups:
            return []
        if dtypes is None:
            dtypes = self.dtypes if self.rounding is None else ["float32"] * len(self.dtypes)
        wanted = tuple(dtypes)
        if wanted not in self._splits:
            self._splits[wanted] = self._backend.compile(lambda *parts: self._copied(wanted, parts), 0, self._alike())
        return self.spread(self._splits[wanted](*self.arrays, *(array for rest in self.rests for array in rest)))

    def _copied(self, dtypes: tuple[str, ...], arrays: Sequence[Array]) -> tuple[Array, ...]:
        count = len(self.groups)
        if self.rounding is not None:
            parts = [arrays[i : i + count] for i in range(0, len(arrays), count)]
            arrays = [self.rounding.value(each) for each in zip(*parts, strict=True)]
        return tuple(self._copy(view, dtype) for view, dtype in zip(self.taken_apart(arrays), dtypes, strict=True))

    def _copy(self, view: Array, dtype: str) -> Array:
        wanted = self._backend.dtype(dtype)
        return self._backend.copy(view) if view.dtype == wanted else self._backend.xp.astype(view, wanted)

    def spread(self, parts: Sequence[Array]) -> list[Array]:
        """The distributed arrays of which these are the local parts."""
        pairs = zip(parts, self.like, strict=True)
        return [part if like is None else self._backend.spread(part, like) for part, like in pairs]


def _column(held: list[Array], parts: list[Any], number: int) -> Write:
    """The write that puts one array of each of `parts` into `held`, as `parts` are when it is made."""
    return partial(setitem, held, slice(None), map(itemgetter(number), parts))
