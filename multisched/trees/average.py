"""Averages of whole models."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from multisched.arrays import dtype_name
from multisched.averages.mean import Mean
from multisched.errors import AverageError, LeafError, listed
from multisched.runtime.registry import get_backend
from multisched.trees.attach import Attachment, update_after_steps
from multisched.trees.contents import Contents
from multisched.trees.leaf import Leaf, LeafChecks, described
from multisched.trees.model import Model
from multisched.trees.options import RoundingName, backend_of, checked_rule, checked_seed, mask_of, storage_of
from multisched.trees.policy import AVERAGE, COPY, Select, chosen
from multisched.trees.saved_rule import ResumeRule, checked_resume_rule
from multisched.trees.state import load_state, state_of
from multisched.trees.structure import Structure
from multisched.trees.swap import Swap, pairs_of, refuse_holding, write_into


@dataclass(frozen=True)
class Snapshot:
    """An average at some moment: what `posthoc` combines."""

    value: Any
    """The tree, in the dtypes in which the average is held."""
    count: int
    rule: Mean


class Average:
    """The running average of the arrays of a model, by one rule, updated in place.

        avg = ms.Average(model, ms.ema(0.999))
        for batch in batches:
            train(model, batch)
            avg.update()
        with avg.swapped():
            evaluate(model)

    Parameters
    ----------
    tree:
        A `torch.nn.Module`, which may be compiled or wrapped: the average covers its parameters and buffers, and counts
        tied ones once. Or arrays of a backend in dicts, lists, tuples, NamedTuples, and in containers that are
        registered with optree or JAX, such as Flax and Equinox modules. The average keeps no copy of the model.
    rule:
        How the values are weighted: `ema`, `swa`, `power_ema`, or one of these `paced`. At update n the average moves
        by `rule.share(n) * (value - average)`.
    dtype:
        The dtype in which the average is stored. Default: the leaf's own dtype, or float32 for float16 and bfloat16.
    select:
        What happens to a leaf: "average", "copy" (keep the latest value) or "skip". Give a function of the name and the
        leaf, or a dict from glob patterns of names, of which the first that matches counts. By default, dense floating
        arrays of at least 16 bits and complex arrays are averaged, and other leaves are copied, Python numbers too. So
        the running statistics of batch norm are averaged like weights; `select={"*.running_*": "copy"}` keeps the
        latest ones.
    rounding, seed:
        For `dtype="bfloat16"`: "stochastic" stores one bfloat16 array for each leaf and is unbiased; "compensated"
        stores two, and keeps 16 bits. The seed, an integer, determines the random bits, which are the same on each
        backend.
    offload:
        "cpu" stores the average on the host. An update starts to copy the model there and does not wait. The copy is
        blended in at the next update, or when the average is read.
    backend:
        The backend of the arrays. Default: the one that their types belong to.

    Raises
    ------
    NotARule:
        The rule does not have one share for all elements: it is a schedule, `sma`, or `ema` with `init`.
    LeafError:
        A leaf is lazy or on no device, or `select` averages one whose dtype has no mean; or no leaf is an array.
    SelectError, DuplicatePath, BackendMismatch, AverageError

    If a method raises or is interrupted, it changes nothing. A signal handler or a callback in the middle of another
    call on the same average, in the same thread, gets a `ReentrantError`; other threads wait. If a kernel fails while
    it writes, for example because memory runs out, all methods raise `TornError` until a state is loaded.

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
        rounding: RoundingName | None = None,
        seed: int = 0,
        offload: Literal["cpu"] | None = None,
        backend: Any = None,
    ):
        rule = checked_rule(rule)
        structure = Structure(tree)
        leaves = structure.leaves(tree)
        found = backend_of(leaves) if backend is None else get_backend(backend)
        policies = chosen(select, structure.names, leaves, found)
        each = zip(structure.names, policies, leaves, strict=True)
        known = [described(found, *leaf) for leaf in each]
        _refuse_nothing(known, leaves)
        seed, checks = checked_seed(seed), LeafChecks(found, known)
        arrays, storage = checks.checked(leaves), storage_of(found, dtype, rounding, offload)
        self._contents = Contents(found, rule, known, arrays, storage, seed)
        self._model = Model(tree, structure, found, checks, leaves)

    @property
    def rule(self) -> Mean:
        """The rule by which the average goes on. Another one may take its place: `avg.rule = ms.ema(0.9999)`.

        Raises `NotARule` for what cannot average a model.
        """
        return self._contents.rule

    @rule.setter
    def rule(self, rule: Mean) -> None:
        rule = checked_rule(rule)
        with self._contents.lock:
            self._contents.rule = rule

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise AverageError(
            "An average is neither copied nor pickled. Make another with ms.Average and load avg.state_dict() into it, "
            "or use ms.save and ms.load."
        )

    def __repr__(self) -> str:
        policies = [leaf.policy for leaf in self._contents.leaves]
        held = f"{policies.count(AVERAGE)} averaged, {policies.count(COPY)} copied"
        return f"Average({self.rule!r}, leaves: {held}, backend={self._contents.backend.name!r})"

    # --- updates
    def update(self, tree: Any = None, where: Any = None) -> None:
        """Let the average follow the model, in place.

        `tree` is the model as it is now. Default: the tree that the average was made of, if its arrays are written in
        place or replaced in their containers. The first update copies the model, so the values that the average was
        made of do not count. A call without `tree` raises `AverageError` if the arrays are immutable, as in JAX, and an
        update has read them before or has been given another tree.

        `where` is a boolean scalar. If it is false, the average and the count stay as they are. It may be on the
        device; the update does not synchronise with the host, unless leaves without a mean change: it then reads the
        mask first.

        Raises `TreeMismatch`, which names the leaf, if a leaf is missing or extra or has another shape, kind of dtype
        or device; `SwapError` while this average or another one is swapped into the model; and `MaskError`. The average
        is then as it was.
        """
        contents, model = self._contents, self._model
        where = None if where is None else mask_of(contents.backend, where)
        with contents.lock:
            contents.refuse_in_model("update it")
            contents.refuse_torn()
            given = model.or_bound(tree, "update")
            leaves, memos = model.read(given)
            numbers = contents.averaged + contents.copied
            refuse_holding([leaves[i] for i in numbers], "update")
            if where is False:
                return
            if tree is None:
                model.refuse_nothing_new(leaves, numbers)
            contents.update(leaves, None if where is True else where, memos, model.noting(given, leaves))

    def attach(self, optimizer: Any) -> Attachment:
        """Update after each step that a torch optimizer takes, from now on.

            average.update() after each optimizer.step(), with the parameters as that step left them

        The average is one of a module, or of a tree of tensors that are written in place. A step that
        `torch.amp.GradScaler` skips, since a gradient is infinite or NaN, does not count: neither where the scaler does
        not call the optimizer, nor where a fused optimizer skips the step by itself; the latter does not synchronise
        with the host. A compiled step (`torch.compile`) goes on after the hook.

        Parameters
        ----------
        optimizer:
            A `torch.optim.Optimizer`, or one that Accelerate or Lightning wrapped. It may be attached to several
            averages, and an average to several optimizers, each step of which counts.

        Returns
        -------
        A handle, whose `detach()` ends it; as a context manager, at the end of the block.

        Raises
        ------
        OptimizerError:
            This is no torch optimizer, or one whose step calls no hooks, since it steps another one inside.

        >>> import numpy as np
        >>> import multisched as ms
        >>> ms.Average(np.zeros(2), ms.ema(0.9)).attach("adam")
        Traceback (most recent call last):
        multisched.errors.OptimizerError: attach takes a torch optimizer, got 'adam' of type str.
        """
        return update_after_steps(self.update, optimizer)

    # --- reading
    @property
    def count(self) -> int:
        """The number of updates so far."""
        contents = self._contents
        with contents.lock:
            contents.refuse_torn()
            return int(contents.clock.known(contents.backend).count)

    @property
    def value(self) -> Any:
        """A copy of the average: a tree like the model, in the model's dtypes, or for a module a dict by names.

        Before the first update, it has the values that the average was made of. A skipped leaf is None in the tree, and
        is missing in the dict.
        """
        with self._contents.lock:
            return self._model.structure.rebuild(self._contents.read(in_own_dtypes=True))

    def snapshot(self) -> Snapshot:
        """A copy of the stored average, which is in float32 for a bfloat16 model, with its count and rule."""
        contents = self._contents
        with contents.lock:
            value = self._model.structure.rebuild(contents.read(in_own_dtypes=False))
            return Snapshot(value, int(contents.clock.known(contents.backend).count), contents.rule)

    # --- its state
    def state_dict(self) -> dict[str, Any]:
        """Copies of all that the average holds, for `torch.save`, `torch.distributed.checkpoint` and Orbax.

        `count` is an int, and `weight` an array of one number. `average`, `compensation` (what rounding has lost) and
        `copied` (the latest values of copied leaves) are dicts of arrays by the names of the leaves. `rule` is the text
        of the rule, in an array of bytes, which these formats can hold. Raises `SwapError` while the average is swapped
        into the model.
        """
        with self._contents.lock:
            self._contents.ready("save it")
            return state_of(self._contents)

    def load_state_dict(self, state: Mapping[str, Any], rule: ResumeRule = "same") -> None:
        """Continue from a `state_dict` of an average of the same leaves, on the same or another backend.

        `rule="same"` refuses the state of another rule, because its numbers mean something else. `"mine"` continues
        with the rule of this average, and `"theirs"` with the rule of the state, which then is `avg.rule`. A state of
        multisched 0.1 has no rule. It loads as a state of this rule, with a warning unless you give `rule="mine"`.

        An array of another dtype is cast if it is of the same kind and every value fits; no number becomes infinite.
        Raises `CheckpointMismatch`, which says what differs, if the rule, a name, a shape or a kind differs, or if a
        value does not fit. The average is then as it was.
        """
        checked_resume_rule(rule)
        with self._contents.lock:
            self._contents.refuse_in_model("load it")
            load_state(self._contents, state, "Cannot load the state: ", rule)

    # --- the model
    def copy_to(self, tree: Any = None) -> None:
        """Write the average in place into its model, or into another model with the same leaves.

        Raises `TreeMismatch` if the model has other leaves, and `SwapError` if its arrays cannot be written, as in JAX;
        use `avg.value` there.
        """
        contents = self._contents
        with contents.lock:
            contents.ready("copy it")
            leaves = self._model.checked(self._model.or_bound(tree, "copy to"))
            write_into(contents.backend, pairs_of(contents, leaves))

    def swapped(self, tree: Any = None) -> Swap:
        """Inside the block the model holds the average; after it, the model has its own weights back, bit for bit.

        The block's variable is the model. The average is written in place, so that compiled and wrapped models see it.
        At its end, the block puts the model's own tensors back into their places, in their dtypes and on their devices,
        also after `model.half()`, `load_state_dict(..., assign=True)` or new buffers inside it. It does not write into
        tensors that came into the model meanwhile. If a leaf no longer has a place, for example because a submodule was
        replaced, the others are restored, and a `SwapError` names the leaf; if the block raised an exception, a note of
        that exception names it.

        An interrupt (`KeyboardInterrupt`, a signal handler that raises) restores the weights too. If it comes in the
        instant in which the block begins or ends, they are restored when its traceback is dropped.

        Raises `SwapError` if it is nested. While the average is swapped in, updating and saving raise it too.
        """
        self._contents.refuse_in_model("swap it again")
        return Swap(self._contents, self._model, self._model.or_bound(tree, "swap into"))


def _refuse_nothing(leaves: list[Leaf], values: list[Any]) -> None:
    """Raise `LeafError` if all leaves are copied as they are, so that the average would hold no array."""
    if leaves and all(leaf.policy == COPY and leaf.shape is None for leaf in leaves):
        found = sorted({dtype_name(value.dtype) for value in values if hasattr(value, "dtype")})
        dtypes = f", but of {listed(found)}" if found else ""
        names = listed(leaf.name for leaf in leaves)
        raise LeafError(f"There is nothing to average: none of {names} is a dense array of numbers{dtypes}.")
