"""Averages of whole models."""

import importlib
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from operator import is_
from typing import Any

from multisched.arrays import dtype_name
from multisched.averages.mean import Mean
from multisched.errors import AverageError, LeafError, ReentrantError, SwapError, TornError, TreeMismatch, listed
from multisched.runtime.registry import get_backend
from multisched.trees.clock import Clock
from multisched.trees.held import backend_of, checked_rule, checked_seed, held_dtype, mask_of, rounding_of, stage_of
from multisched.trees.leaf import Memos, Seen, deleted, described, duplicate, is_deleted, references
from multisched.trees.parts import first_part
from multisched.trees.policy import AVERAGE, COPY, Select, chosen
from multisched.trees.pool import Pool
from multisched.trees.rounding import Rounding, update_key
from multisched.trees.state import load_state, state_of
from multisched.trees.structure import Structure
from multisched.trees.swap import Swap, overwritten, refuse_holding, targets, unwritable
from multisched.trees.told import Whose, checked_whose
from multisched.trees.writes import Write, perform

_ATTACH = "multisched.integrations.attach"
"""Imported when it is used, since the imports of the library go the other way."""


@dataclass(frozen=True)
class Snapshot:
    """An average at some moment: what `posthoc` combines."""

    value: Any
    """The tree, in the dtypes in which the average is held."""
    count: int
    rule: Mean


class Average:
    """The running average of a model: of all its arrays, by one rule, updated in place.

        avg = ms.Average(model, ms.ema(0.999))
        for batch in batches:
            train(model, batch)
            avg.update()
        with avg.swapped():
            evaluate(model)

    Parameters
    ----------
    tree:
        A `torch.nn.Module`, compiled or wrapped or plain: its parameters and buffers, tied ones once. Or arrays of any
        backend in dicts, lists, tuples, NamedTuples, and in what is registered with optree or JAX: a Flax or an Equinox
        module. The average starts as what it holds, and never keeps a copy of the model.
    rule:
        How values are weighted: `ema`, `swa`, `power_ema`, or these `paced`. At update n the average moves by
        `rule.share(n) * (value - average)`.
    dtype:
        The dtype in which the average is stored. Default: the leaf's own dtype, or float32 for float16 and bfloat16.
    select:
        What becomes of a leaf: "average", "copy" (the latest value) or "skip". Either a function of its name and the
        leaf, or a dict from glob patterns of names, of which the first that matches counts. For other leaves the
        default holds: dense floating arrays of at least 16 bits and complex arrays are averaged, all others are copied,
        what is no array (a Python number) too. So the running statistics of batch norm are averaged, as the weights
        are; `select={"*.running_*": "copy"}` takes the latest ones.
    rounding, seed:
        With `dtype="bfloat16"`: "stochastic" stores one bfloat16 array for each leaf and is unbiased; "compensated"
        stores two, and keeps 16 bits. The seed, any integer, makes the random bits, the same on every backend.
    offload:
        "cpu" holds the average on the host. An update starts to copy the model there and does not wait; it is blended
        in at the next update, or when the average is read.
    backend:
        The backend of the arrays; by default their types tell.

    Raises
    ------
    NotARule:
        The rule is none that gives all elements one share: no schedule, no `sma`, no `ema` with `init`.
    LeafError:
        A leaf is lazy, on no device, or of a dtype without a mean; or none is an array.
    SelectError, DuplicatePath, BackendMismatch, AverageError

    Each method does all that it does, or nothing if it raises or is interrupted. In a signal handler or a callback that
    comes in the middle of another call on the same average and thread, it raises `ReentrantError`; other threads wait.
    If a kernel fails while it writes, as out of memory, all methods raise `TornError` until a state is loaded.

    >>> import numpy as np
    >>> import multisched as ms
    >>> weights = {"w": np.zeros(2, np.float32), "steps": np.array(0)}
    >>> avg = ms.Average(weights, ms.ema(0.5))
    >>> for step in range(3):
    ...     weights["w"] += 1
    ...     weights["steps"] += 1
    ...     avg.update()
    >>> avg.value
    {'w': array([2.25, 2.25], dtype=float32), 'steps': array(3)}
    """

    def __init__(
        self,
        tree: Any,
        rule: Mean,
        *,
        dtype: Any = None,
        select: Select | None = None,
        rounding: str | None = None,
        seed: int = 0,
        offload: str | None = None,
        backend: Any = None,
    ):
        self.rule = checked_rule(rule)
        self._structure = Structure(tree)
        leaves = self._structure.leaves(tree)
        self._backend = backend_of(leaves) if backend is None else get_backend(backend)
        policies = chosen(select, self._structure.names, leaves, self._backend)
        each = zip(self._structure.names, policies, leaves, strict=True)
        self._leaves = [described(self._backend, *leaf) for leaf in each]
        self._seen = Seen(self._backend, self._leaves)
        self._averaged = self._where(AVERAGE)
        self._copied = [i for i in self._where(COPY) if self._leaves[i].shape is not None]
        self._kept = [i for i in self._where(COPY) if self._leaves[i].shape is None]
        if self._kept and len(self._kept) == len(self._leaves):
            names = listed(leaf.name for leaf in self._leaves)
            raise LeafError(
                f"There is nothing to average: none of {names} is a dense array of numbers{_dtypes_of(leaves)}."
            )
        self._seed = checked_seed(seed)
        self._unfinished: list[Any] | None = None
        self._hold(self._seen.checked(leaves), rounding_of(self._backend, rounding, dtype), dtype, offload)
        self._clock = Clock()
        self._followed: list[Callable[[], Any]] = []
        self._first = references(leaves) if getattr(self._backend, "immutable", False) else []
        self._bound: Any = tree
        self._swapped = False
        self._guard = threading.RLock()
        _all.add(self)

    def _hold(self, leaves: list[Any], rounding: Rounding | None, dtype: Any, offload: str | None) -> None:
        """Make the arrays of the average, which starts as the model is."""
        own = [self._leaves[i].dtype for i in self._averaged]
        self._stage = None if offload is None else stage_of(self._backend, offload)
        self._stage_of_copied = None if offload is None else stage_of(self._backend, offload)
        device = None if self._stage is None else "cpu"
        held = [held_dtype(leaf, dtype, rounding) for leaf in own]
        self._mean = Pool(self._backend, self._of(self._averaged, leaves), held, device, rounding)
        latest = [self._leaves[i].dtype for i in self._copied]
        self._latest = Pool(self._backend, self._of(self._copied, leaves), latest, device)
        wide = not {"float64", "complex128"}.isdisjoint(self._mean.dtypes)
        self._precision = "float64" if wide else "float32"
        self._objects = {i: duplicate(leaves[i]) for i in self._kept}
        self._later: tuple[Any, dict[int, Any]] | None = None
        self._pending: tuple[Any, ...] | None = None
        arrays = self._averaged + self._copied
        self._part = first_part(self._backend, ((self._leaves[i].name, leaves[i]) for i in arrays))
        if self._stage is not None and (self._mean.distributed or self._latest.distributed):
            raise AverageError("An average of distributed arrays lies where they do: it cannot be offloaded.")
        if rounding is not None:
            averaged = self._of(self._averaged, leaves)
            if self._stage is not None:
                self._stage.put(averaged)
                averaged = self._stage.take()
            perform(self._backend, self._mean.blending(averaged, 1.0, None, update_key(self._seed, -1)))

    @staticmethod
    def _of(numbers: list[int], leaves: list[Any]) -> list[Any]:
        return [leaves[i] for i in numbers]

    def attach(self, optimizer: Any) -> Any:
        """Update after each step of a torch optimizer from now on; see `multisched.integrations.attach`.

        A step that `GradScaler` skips does not count. The handle that is returned has `detach()`, and is a context
        manager. Raises `OptimizerError` for what is no torch optimizer.
        """
        return importlib.import_module(_ATTACH).attach(self, optimizer)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise AverageError(
            "An average is neither copied nor pickled. Make another with ms.Average and load avg.state_dict() into it, "
            "or use ms.save and ms.load."
        )

    def _where(self, policy: str) -> list[int]:
        return [i for i, leaf in enumerate(self._leaves) if leaf.policy == policy]

    def __repr__(self) -> str:
        held = f"{len(self._averaged)} averaged, {len(self._copied) + len(self._kept)} copied"
        return f"Average({self.rule!r}, leaves: {held}, backend={self._backend.name!r})"

    # --- updates
    def update(self, tree: Any = None, where: Any = None) -> None:
        """Let the average follow the model, in place.

        `tree` is the model as it is now. Default: the one that the average was made of, if that can change: a module,
        or containers whose arrays are written or exchanged. The first update copies the model; what the average was
        made of does not count. A call without `tree` is an `AverageError` if all arrays are immutable, as those of JAX,
        and an update has read them before, or has been given another tree.

        `where`, a boolean scalar: where false, average and count stay as they are. It may be on the device; the update
        does not synchronise with the host, unless leaves without a mean change: then it reads the mask before.

        If a leaf is missing or extra, or has another shape, kind of dtype or device, raises `TreeMismatch`, which names
        it; `SwapError` while the model holds this average or another; `MaskError`. Then nothing was updated.
        """
        where = None if where is None else mask_of(self._backend, where)
        with self._lock:
            self._refuse_swapped("update it")
            self._refuse_torn()
            leaves, bound = self._read(tree)
            refuse_holding(self._of(self._averaged + self._copied, leaves), "update")
            if where is False:
                return
            if tree is None:
                self._refuse_nothing(leaves)
            where = None if where is True else where
            share, clock = self._clock.next(self.rule, self._backend, where, self._precision)
            key = update_key(self._seed, self._clock.count)
            notes: list[Write] = [partial(setattr, self, "_clock", clock)]
            if self._kept:
                notes.append(self._following(leaves, where))
            if getattr(self._backend, "immutable", False):
                notes.append(
                    partial(setattr, self, "_followed", references(leaves) if bound else self._followed or self._first)
                )
            if not bound and not self._is_module():  # a functional model: what it was at first is not kept alive
                notes.append(partial(setattr, self, "_bound", None))
            if self._stage is None:
                writes = self._blending(leaves, share, where, key, self._seen.memos(bound))
            else:
                writes = self._sending(leaves, share, where, key)
            self._perform([*writes, *notes], leaves)

    def _refuse_nothing(self, leaves: list[Any]) -> None:
        """Refuse an update by arrays that the model had when it was last read, which nothing can have changed.

        A module stays bound while `update` is given other trees, so it may still hold the arrays of the beginning.
        """
        if self._followed and all(leaves[i] is self._followed[i]() for i in (*self._averaged, *self._copied)):
            raise AverageError(
                f"The model still holds the arrays that the average has read before, and arrays of "
                f"{self._backend.name} never change, so there is nothing to follow. Give the new tree: "
                "avg.update(params)."
            )

    def _blending(self, leaves: list[Any], share: Any, where: Any, key: Any, memos: Memos) -> list[Write]:
        """What blends in the model; the leaves that are averaged are not looked at if their share is 0."""
        mean, latest = memos.setdefault("mean", {}), memos.setdefault("latest", {})
        writes = (
            [] if _is_zero(share) else self._mean.blending(self._of(self._averaged, leaves), share, where, key, mean)
        )
        return writes + self._latest.blending(self._of(self._copied, leaves), None, where, memo=latest)

    def _following(self, leaves: list[Any], where: Any) -> Write:
        """What takes in the leaves without a mean, which no kernel can mask.

        Under a mask that the device alone knows, those that have changed are put aside until they are needed, with a
        copy of the mask: by then the host can know it without waiting.
        """
        if where is None:
            taken = self._objects | {i: duplicate(leaves[i]) for i in self._kept}
            return partial(self.__dict__.update, {"_objects": taken, "_later": None})
        self._settle_objects()
        changed = {i: duplicate(leaves[i]) for i in self._kept if not _is_same(leaves[i], self._objects[i])}
        return partial(setattr, self, "_later", (self._backend.copy(where), changed) if changed else None)

    def _settle_objects(self) -> None:
        """Take in what was put aside, if its mask was true."""
        if self._later is not None:
            where, changed = self._later
            taken = self._objects | (changed if self._backend.to_numpy(where).item() else {})
            self.__dict__.update({"_objects": taken, "_later": None})

    def _sending(self, leaves: list[Any], share: Any, where: Any, key: Any) -> list[Write]:
        """Bring to the host what an update needs, and note it there."""
        if _is_zero(share) and not self._copied:
            return []
        self._settle()
        if not _is_zero(share):
            self._stage.put(self._of(self._averaged, leaves))  # type: ignore[union-attr]
        self._stage_of_copied.put(self._of(self._copied, leaves))  # type: ignore[union-attr]
        return [partial(setattr, self, "_pending", (share, where, key))]

    def _settle(self) -> None:
        """Blend in what is on its way to the host, and take in what was put aside."""
        self._settle_objects()
        if self._pending is not None and self._stage is not None and self._stage_of_copied is not None:
            share, where, key = map(self._stage.moved, self._pending)
            arrived: dict[int, Any] = dict(zip(self._copied, self._stage_of_copied.take(), strict=True))
            if not _is_zero(share):
                arrived.update(zip(self._averaged, self._stage.take(), strict=True))
            leaves = [arrived.get(i) for i in range(len(self._leaves))]
            writes = self._blending(leaves, share, where, key, {})
            self._perform([*writes, partial(setattr, self, "_pending", None)])

    def _read(self, tree: Any) -> tuple[list[Any], bool]:
        """The leaves of the model now, checked, and whether it is the one that the average was made of."""
        tree = self._model("update") if tree is None else tree
        bound = tree is self._bound
        return self._seen.checked(self._structure.leaves(tree), bound), bound

    # --- all or nothing
    @property
    def _lock(self) -> threading.RLock:
        """What to hold while the average is used: other threads wait, and this thread may not use it twice at once."""
        guard = self._guard
        if guard._is_owned():  # type: ignore[attr-defined]
            raise ReentrantError(
                "This average is in the middle of another call on this thread, which a signal handler or a callback "
                "interrupts. Let the handler set a flag, and use the average when the call has returned."
            )
        return guard

    def _perform(self, writes: list[Write], leaves: list[Any] | None = None) -> None:
        """Do all of it, or nothing; if it fails in the middle the average is torn."""
        held = [] if self._backend.in_place else [*self._mean.all, *self._latest.all]
        begun, done = (partial(setattr, self, "_unfinished", value) for value in (held, None))
        try:
            perform(self._backend, [begun, *writes, done])
        except Exception as cause:
            torn = self._is_torn()
            if torn:
                cause.add_note(_TORN)
            elif leaves is not None and (told := deleted(self._leaves, leaves)):
                raise TreeMismatch(told) from cause
            raise

    def _is_torn(self) -> bool:
        """Whether writes have begun and not ended. Arrays that are exchanged are whole if none of them was."""
        if self._backend.in_place:
            return self._unfinished is not None
        held = [*self._mean.all, *self._latest.all]
        exchanged = self._unfinished is not None and not all(map(is_, held, self._unfinished))
        return exchanged or any(map(is_deleted, held))

    def _renew(self) -> None:
        """Make arrays again that an update consumed before it failed; the average stays torn until it is loaded."""
        if self._is_torn():
            self._unfinished = [None]
            self._mean.renew()
            self._latest.renew()

    def _refuse_torn(self) -> None:
        if self._is_torn():
            raise TornError(_TORN)

    # --- reading
    @property
    def count(self) -> int:
        """How many updates there were."""
        with self._lock:
            self._refuse_torn()
            return int(self._clock.known(self._backend).count)

    @property
    def value(self) -> Any:
        """The average, a copy: a tree like the model's, in its dtypes; of a module, a dict of its names.

        Before the first update, what the average was made of. A skipped leaf is None, or not in the dict.
        """
        with self._lock:
            return self._tree([self._leaves[i].dtype for i in self._averaged])

    def snapshot(self) -> Snapshot:
        """The average as it is held, a copy, in float32 for a bfloat16 model, with its count and rule."""
        with self._lock:
            return Snapshot(self._tree(None), int(self._clock.known(self._backend).count), self.rule)

    def _tree(self, dtypes: list[str] | None) -> Any:
        self._refuse_torn()
        self._settle()
        found: dict[int, Any] = {i: duplicate(leaf) for i, leaf in self._objects.items()}
        found.update(zip(self._averaged, self._mean.read(dtypes), strict=True))
        found.update(zip(self._copied, self._latest.read(), strict=True))
        return self._structure.rebuild([found.get(i) for i in range(len(self._leaves))])

    # --- its state
    def state_dict(self) -> dict[str, Any]:
        """All that the average holds, copies: `count`, an int, `weight`, and arrays by the names of their leaves.

        `average` are those of the average as it is held, `compensation` what rounding took of it, `copied` the latest
        values of what is copied. `rule` is the text of the rule, in bytes, so that any format can hold it. For
        `torch.save`, `torch.distributed.checkpoint`, Orbax. Raises `SwapError` while the model holds the average.
        """
        with self._lock:
            self._ready("save it")
            return state_of(self)

    def load_state_dict(self, state: Mapping[str, Any], rule: Whose = "same") -> None:
        """Go on from what `state_dict` gave, of an average of the same leaves on any backend.

        `rule="same"` refuses the state of another rule, whose weights mean something else; `"mine"` goes on with the
        rule of this average, and `"theirs"` with that of the state, which is `avg.rule` then. A state without a rule,
        of multisched 0.1, is taken for one of this rule, with a warning unless `rule="mine"` says so.

        An array of another dtype is cast if it is of the same kind and every value fits: none of a float becomes
        infinite. Raises `CheckpointMismatch` for another rule, other names, shapes or kinds, or a value that does not
        fit, saying what differs; then nothing has changed.
        """
        checked_whose(rule)
        with self._lock:
            self._refuse_swapped("load it")
            load_state(self, state, "Cannot load the state: ", rule)

    def _ready(self, what: str) -> None:
        self._refuse_swapped(what)
        self._refuse_torn()
        self._settle()

    # --- the model
    def copy_to(self, tree: Any = None) -> None:
        """Write the average into a model, in place: the one that it is of, or another of the same leaves.

        Raises `TreeMismatch` for a model of other leaves, and `SwapError` where arrays cannot be written, as in JAX:
        there `avg.value` is all it takes.
        """
        with self._lock:
            self._ready("copy it")
            leaves = self._structure.leaves(self._model("copy to") if tree is None else tree)
            pairs = targets(self, self._seen.checked(leaves))
            try:
                perform(self._backend, overwritten(self._backend, pairs), [target for target, _ in pairs])
            except (TypeError, ValueError) as cause:
                raise unwritable(cause) from cause

    def swapped(self, tree: Any = None) -> Swap:
        """Inside the block the model holds the average; after it, its own weights again, bit by bit.

        The average is written in place, so that compiled and wrapped models see it. The block is given the model. The
        end of the block also undoes what the block did to the leaves of the average: it puts the model's own tensors
        back into their places, in their dtypes and on their devices, after `model.half()`, `load_state_dict(...,
        assign=True)` or new buffers. What came into the model meanwhile is not written. If a leaf has no place any
        more, as when a submodule was exchanged, all others are given back, and a `SwapError` names it; if the block
        raised, a note of its exception does.

        An interrupt (`KeyboardInterrupt`, a signal handler that raises) gives the weights back too. If it comes in the
        instant in which the block begins or ends, they are given back when its traceback is dropped.

        Raises `SwapError` when nested, and for updating or saving inside of the block, when the model is not itself.
        """
        self._refuse_swapped("swap it again")
        return Swap(self, self._model("swap into") if tree is None else tree)

    def _model(self, to: str) -> Any:
        if self._bound is None:
            raise AverageError(f"There is no model to {to}: the latest update was given another tree, so give one now.")
        return self._bound

    def _is_module(self) -> bool:
        return self._bound is not None and self._structure.is_container

    def _refuse_swapped(self, what: str) -> None:
        if self._swapped:
            raise SwapError(f"The model holds the average now; leave the block of avg.swapped() to {what}.")


def _is_same(leaf: Any, held: Any) -> bool:
    """Whether a leaf without a mean is known to be what is held: no array, whose elements may have changed."""
    if hasattr(leaf, "dtype"):
        return False
    return leaf is held or (type(leaf) is type(held) and type(leaf) in (bool, int, float, str) and leaf == held)


def _dtypes_of(leaves: list[Any]) -> str:
    """The dtypes of what are arrays, in the words of a message."""
    found = sorted({dtype_name(leaf.dtype) for leaf in leaves if hasattr(leaf, "dtype")})
    return f", but of {listed(found)}" if found else ""


def _is_zero(share: Any) -> bool:
    """Whether a share is known to be 0, so that no value is looked at."""
    return isinstance(share, float) and share == 0


_TORN = (
    "The average is torn: an update failed while it was written, so that a part of it is new and a part is old. Load a "
    "state that was saved before, with ms.load(path, avg) or avg.load_state_dict(state), or make another average."
)
_all: "weakref.WeakSet[Average]" = weakref.WeakSet()


def _after_fork() -> None:
    """Locks that other threads held are never released in a forked process. Nothing was being written, see `commit`."""
    for average in list(_all):
        if not average._guard._is_owned():  # type: ignore[attr-defined]
            average._guard = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
