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
        """The rule by which the average goes on."""
        return self._contents.rule

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

        `tree` is the model as it is now. Default: the one that the average was made of, if that can change: a module,
        or containers whose arrays are written or exchanged. The first update copies the model; what the average was
        made of does not count. A call without `tree` is an `AverageError` if all arrays are immutable, as those of JAX,
        and an update has read them before, or has been given another tree.

        `where`, a boolean scalar: where false, average and count stay as they are. It may be on the device; the update
        does not synchronise with the host, unless leaves without a mean change: then it reads the mask before.

        If a leaf is missing or extra, or has another shape, kind of dtype or device, raises `TreeMismatch`, which names
        it; `SwapError` while the model holds this average or another; `MaskError`. Then nothing was updated.
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
        """How many updates there were."""
        contents = self._contents
        with contents.lock:
            contents.refuse_torn()
            return int(contents.clock.known(contents.backend).count)

    @property
    def value(self) -> Any:
        """The average, a copy: a tree like the model's, in its dtypes; of a module, a dict of its names.

        Before the first update, what the average was made of. A skipped leaf is None, or not in the dict.
        """
        with self._contents.lock:
            return self._model.structure.rebuild(self._contents.read(in_own_dtypes=True))

    def snapshot(self) -> Snapshot:
        """The average as it is held, a copy, in float32 for a bfloat16 model, with its count and rule."""
        contents = self._contents
        with contents.lock:
            value = self._model.structure.rebuild(contents.read(in_own_dtypes=False))
            return Snapshot(value, int(contents.clock.known(contents.backend).count), contents.rule)

    # --- its state
    def state_dict(self) -> dict[str, Any]:
        """All that the average holds, copies: `count`, an int, `weight`, and arrays by the names of their leaves.

        `average` are those of the average as it is held, `compensation` what rounding took of it, `copied` the latest
        values of what is copied. `rule` is the text of the rule, in bytes, so that any format can hold it. For
        `torch.save`, `torch.distributed.checkpoint`, Orbax. Raises `SwapError` while the model holds the average.
        """
        with self._contents.lock:
            self._contents.ready("save it")
            return state_of(self._contents)

    def load_state_dict(self, state: Mapping[str, Any], rule: ResumeRule = "same") -> None:
        """Go on from what `state_dict` gave, of an average of the same leaves on any backend.

        `rule="same"` refuses the state of another rule, whose weights mean something else; `"mine"` goes on with the
        rule of this average, and `"theirs"` with that of the state, which is `avg.rule` then. A state without a rule,
        of multisched 0.1, is taken for one of this rule, with a warning unless `rule="mine"` says so.

        An array of another dtype is cast if it is of the same kind and every value fits: none of a float becomes
        infinite. Raises `CheckpointMismatch` for another rule, other names, shapes or kinds, or a value that does not
        fit, saying what differs; then nothing has changed.
        """
        checked_resume_rule(rule)
        with self._contents.lock:
            self._contents.refuse_in_model("load it")
            load_state(self._contents, state, "Cannot load the state: ", rule)

    # --- the model
    def copy_to(self, tree: Any = None) -> None:
        """Write the average into a model, in place: the one that it is of, or another of the same leaves.

        Raises `TreeMismatch` for a model of other leaves, and `SwapError` where arrays cannot be written, as in JAX:
        there `avg.value` is all it takes.
        """
        contents = self._contents
        with contents.lock:
            contents.ready("copy it")
            leaves = self._model.checked(self._model.or_bound(tree, "copy to"))
            write_into(contents.backend, pairs_of(contents, leaves))

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
        self._contents.refuse_in_model("swap it again")
        return Swap(self._contents, self._model, self._model.or_bound(tree, "swap into"))


def _refuse_nothing(leaves: list[Leaf], values: list[Any]) -> None:
    """Raise `LeafError` if all leaves are copied as they are, so that the average would hold no array."""
    if leaves and all(leaf.policy == COPY and leaf.shape is None for leaf in leaves):
        found = sorted({dtype_name(value.dtype) for value in values if hasattr(value, "dtype")})
        dtypes = f", but of {listed(found)}" if found else ""
        names = listed(leaf.name for leaf in leaves)
        raise LeafError(f"There is nothing to average: none of {names} is a dense array of numbers{dtypes}.")
