"""What an average holds: all that is saved, loaded, read, and written into a model; nothing of the model itself."""

from collections.abc import Sequence
from functools import partial
from operator import is_
from typing import Any, NamedTuple

from multisched.averages.mean import Mean
from multisched.errors import AverageError, SwapError, TornError, TreeMismatch
from multisched.runtime.protocol import Backend, Write
from multisched.trees.clock import Clock
from multisched.trees.divided import first_divided
from multisched.trees.guard import Guard
from multisched.trees.leaf import Leaf, deleted, duplicate, is_deleted
from multisched.trees.objects import Objects
from multisched.trees.offload import Offload
from multisched.trees.options import Storage
from multisched.trees.policy import AVERAGE, COPY
from multisched.trees.pool import Pool
from multisched.trees.rounding import update_key
from multisched.trees.writes import perform

Memos = dict[str, dict[str, Any]]
"""A memo of the adapter for each pool, see `RunsWithMemo`."""


class Section(NamedTuple):
    """One table of arrays by name, as states and files have it."""

    name: str
    """One of `SECTIONS`."""
    leaves: list[str]
    """The names of its leaves."""
    arrays: list[Any]
    """For each leaf the array, or the part of it that this process holds."""
    pool: Pool
    """Where these lie."""


SECTIONS = ("average", "compensation", "copied")
"""The average of each leaf; what rounding took of it; the latest value of each leaf that is copied."""


class Contents:
    """The arrays of an average, its clock, its rule, and what is known of each leaf by name.

    `mean` has the averages and `latest` the latest values of the arrays that are copied; `objects` has the leaves that
    are copied as they are. `averaged` and `copied` are the numbers of the leaves in the two pools.

    The contents are locked as a whole. Each change is prepared first, and then done in one commit (`perform`). If that
    fails in the middle the contents are torn: nothing but loading may use them.
    """

    backend: Backend
    rule: Mean
    leaves: Sequence[Leaf]
    clock: Clock
    averaged: list[int]
    copied: list[int]
    objects: Objects
    mean: Pool
    latest: Pool
    divided: Any
    """The first leaf of which this process holds a part, if any."""
    in_model: bool
    """Whether the model holds the average now, in a block of `swapped`."""

    def __init__(
        self, backend: Backend, rule: Mean, leaves: Sequence[Leaf], values: list[Any], storage: Storage, seed: int
    ):
        self.backend = backend
        self.rule = rule
        self.leaves = leaves
        self.clock = Clock()
        self.averaged = [i for i, leaf in enumerate(leaves) if leaf.policy == AVERAGE]
        self.copied = [i for i, leaf in enumerate(leaves) if leaf.policy == COPY and leaf.shape is not None]
        opaque = [i for i, leaf in enumerate(leaves) if leaf.policy == COPY and leaf.shape is None]
        self.objects = Objects(backend, opaque, values)
        self._offload = Offload(backend) if storage.device else None
        dtypes = [storage.dtype_for(leaves[i].dtype) for i in self.averaged]
        self.mean = Pool(backend, self.averaged_of(values), dtypes, storage.device, storage.rounding)
        self._precision = "float32" if {"float64", "complex128"}.isdisjoint(dtypes) else "float64"
        self.latest = Pool(backend, self.copied_of(values), [leaves[i].dtype for i in self.copied], storage.device)
        self.divided = first_divided(backend, ((leaves[i].name, values[i]) for i in self.averaged + self.copied))
        self.in_model = False
        self._guard = Guard()
        self._seed = seed
        self._unfinished: list[Any] | None = None
        if self._offload is not None and self.is_distributed:
            raise AverageError("An average of distributed arrays lies where they do: it cannot be offloaded.")
        if storage.rounding is not None:
            self._start_rounded(values)

    def _start_rounded(self, values: list[Any]) -> None:
        """Hold the values that the model has now, rounded as an update rounds."""
        averaged = self.averaged_of(values)
        if self._offload is not None:
            averaged = self._offload.brought(averaged)
        perform(self.backend, self.mean.blending(averaged, 1.0, None, update_key(self._seed, -1)))

    # --- which leaves
    def averaged_of(self, leaves: list[Any]) -> list[Any]:
        """Of all leaves, those that are averaged."""
        return [leaves[i] for i in self.averaged]

    def copied_of(self, leaves: list[Any]) -> list[Any]:
        """Of all leaves, the arrays of which the latest value is held."""
        return [leaves[i] for i in self.copied]

    @property
    def arrays(self) -> list[Any]:
        """The arrays of both pools, as they are packed; without what rounding took of them."""
        return [*self.mean.arrays, *self.latest.arrays]

    @property
    def is_distributed(self) -> bool:
        """Whether some leaves are distributed arrays."""
        return self.mean.distributed or self.latest.distributed

    def sections(self) -> list[Section]:
        """What the pools hold, as tables by name."""
        averaged = [self.leaves[i].name for i in self.averaged]
        held = zip(SECTIONS, (self.mean.arrays, *self.mean.rests), strict=False)
        found = [Section(name, averaged, self.mean.taken_apart(arrays), self.mean) for name, arrays in held]
        copied = [self.leaves[i].name for i in self.copied]
        return [*found, Section(SECTIONS[-1], copied, self.latest.taken_apart(self.latest.arrays), self.latest)]

    def object_arrays(self) -> dict[str, int]:
        """The arrays that are copied as they are: their names, and the numbers of their leaves."""
        return {self.leaves[i].name: i for i in self.objects.arrays()}

    # --- who may use them
    @property
    def lock(self) -> Any:
        """What to hold while the contents are used; see `Guard`."""
        return self._guard.lock

    def ready(self, what: str) -> None:
        """Make sure that the contents are complete and in their place; `what` is to be done with them."""
        self.refuse_in_model(what)
        self.refuse_torn()
        self.settle()

    def refuse_in_model(self, what: str) -> None:
        """Raise `SwapError` inside of a block of `swapped`."""
        if self.in_model:
            raise SwapError(f"The model holds the average now; leave the block of avg.swapped() to {what}.")

    def refuse_torn(self) -> None:
        """Raise `TornError` if an update failed in the middle and nothing was loaded since."""
        if self._is_torn():
            raise TornError(_TORN)

    # --- updates
    def update(self, leaves: list[Any], where: Any, memos: Memos, notes: list[Write]) -> None:
        """Follow a model of these leaves; `where` is None or a mask that the device knows.

        `notes` are writes of the caller's, which belong to the same step.
        """
        share, clock = self.clock.next(self.rule, self.backend, where, self._precision)
        key = update_key(self._seed, self.clock.count)
        noted: list[Write] = [partial(setattr, self, "clock", clock), *self.objects.following(leaves, where), *notes]
        if self._offload is None:
            averaged, copied = self.averaged_of(leaves), self.copied_of(leaves)
            writes = self._blending(averaged, copied, share, where, key, memos)
        else:
            writes = self._sending(self._offload, leaves, share, where, key)
        self.perform([*writes, *noted], leaves)

    def _blending(
        self, averaged: list[Any], copied: list[Any], share: Any, where: Any, key: Any, memos: Memos
    ) -> list[Write]:
        """The writes that blend in a model; if the share is 0, the leaves that are averaged are not read."""
        of_mean, of_latest = memos.setdefault("mean", {}), memos.setdefault("latest", {})
        writes = [] if _is_zero(share) else self.mean.blending(averaged, share, where, key, of_mean)
        return writes + self.latest.blending(copied, None, where, memo=of_latest)

    def _sending(self, offload: Offload, leaves: list[Any], share: Any, where: Any, key: Any) -> list[Write]:
        """Begin to copy a model to the host; the write notes that it is under way."""
        if _is_zero(share) and not self.copied:
            return []
        self.settle()
        averaged = None if _is_zero(share) else self.averaged_of(leaves)
        return [offload.sending(averaged, self.copied_of(leaves), share, where, key)]

    def settle(self) -> None:
        """Blend in what is on its way to the host, and take in the objects that were put aside."""
        self.objects.settle()
        if self._offload is not None and (arrived := self._offload.arrived()) is not None:
            self.perform([*self._blending(*arrived, {}), self._offload.forgetting()])

    # --- all or nothing
    def perform(self, writes: list[Write], leaves: list[Any] | None = None) -> None:
        """Do all of it, or nothing; if it fails in the middle the contents are torn.

        `leaves` are those of the model that is read: if one has no memory any more, `TreeMismatch` names it.
        """
        held = [] if self.backend.in_place else self._all
        begun, done = (partial(setattr, self, "_unfinished", value) for value in (held, None))
        try:
            perform(self.backend, [begun, *writes, done])
        except Exception as cause:
            if self._is_torn():
                cause.add_note(_TORN)
            elif leaves is not None and (message := deleted(self.leaves, leaves)):
                raise TreeMismatch(message) from cause
            raise

    @property
    def _all(self) -> list[Any]:
        return [*self.mean.all, *self.latest.all]

    def _is_torn(self) -> bool:
        """Whether writes have begun and not ended. Arrays that are exchanged are whole if none of them was."""
        if self.backend.in_place:
            return self._unfinished is not None
        held = self._all
        exchanged = self._unfinished is not None and not all(map(is_, held, self._unfinished))
        return exchanged or any(map(is_deleted, held))

    def renew(self) -> None:
        """If the contents are torn, make the arrays again that an update consumed before it failed.

        The contents stay torn until something is loaded.
        """
        if self._is_torn():
            self._unfinished = [None]
            self.mean.renew()
            self.latest.renew()

    # --- reading and loading
    def read(self, in_own_dtypes: bool) -> list[Any]:
        """A copy of what is held for each leaf, None for a skipped one.

        The averages come in the dtypes of the model, or else in those in which they are held.
        """
        self.refuse_torn()
        self.settle()
        dtypes = [self.leaves[i].dtype for i in self.averaged] if in_own_dtypes else None
        found: dict[int, Any] = {i: duplicate(leaf) for i, leaf in self.objects.held.items()}
        found.update(zip(self.averaged, self.mean.read(dtypes), strict=True))
        found.update(zip(self.copied, self.latest.read(), strict=True))
        return [found.get(i) for i in range(len(self.leaves))]

    def load(self, sections: list[list[Any]], objects: dict[int, Any], clock: Clock, rule: Mean) -> None:
        """Hold these arrays, in the order of `sections()`, and these objects, by this clock and rule."""
        writes = [*self.mean.loading(sections[:-1]), *self.latest.loading(sections[-1:])]
        writes += [partial(setattr, self, "clock", clock), partial(setattr, self, "rule", rule)]
        writes.append(self.objects.replacing(objects))
        if self._offload is not None:
            writes.append(self._offload.forgetting())
        self.perform(writes)


def _is_zero(share: Any) -> bool:
    """Whether a share is known to be 0, so that no value is read."""
    return isinstance(share, float) and share == 0


_TORN = (
    "The average is torn: an update failed while it was written, so that a part of it is new and a part is old. Load a "
    "state that was saved before, with ms.load(path, avg) or avg.load_state_dict(state), or make another average."
)
