"""What `drive` hangs on one torch optimizer: the hooks around its steps.

The optimizer owns its harness, through the hooks; drivers and this module refer to both weakly. The harness refers to
parameters, whose own hooks may refer to the optimizer (an optimizer step in the backward pass): whoever held it would
keep the optimizer alive.
"""

import importlib
import sys
import warnings
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from types import MethodType
from typing import Any, Literal, NoReturn, TypeAlias

from multisched.errors import MultischedError, OptimizerError
from multisched.integrations.drive.groups import KnownGroup, Reading
from multisched.integrations.drive.meanings import own_value
from multisched.integrations.drive.settings import Group
from multisched.integrations.drive.writer import Writer

Unclear: TypeAlias = Literal["raise", "later"]
"""What to do where it is not clear what a new group means: raise now, or before the next step."""

_harnesses: "weakref.WeakKeyDictionary[Any, weakref.ref[Harness]]" = weakref.WeakKeyDictionary()


class Harness:
    """The hooks of one optimizer, the groups that they have seen, and what writes into these."""

    def __init__(self, optimizer: Any):
        self.optimizer: Callable[[], Any] = weakref.ref(optimizer)
        self.groups: list[KnownGroup] = []
        self.writers: tuple[Writer, ...] = ()
        """One for each driver."""
        self._taken_out: list[KnownGroup] = []
        self._settled_ids: list[int] = []
        """The ids of the groups; none if something is unclear or a driver has come or gone."""
        self._handles: list[Any] = []
        self._unpatch: Callable[[], None] | None = None
        self._depth = 0
        """How many calls of `step` are under way: 0, 1, or more if a step calls another."""
        self._warned = False
        self._on_gpu = False
        self._tracing: Callable[[], Any] = lambda: None

    def __deepcopy__(self, memo: Any) -> NoReturn:
        _refuse_copy()

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        _refuse_copy()

    # --- drivers come and go -----------------------------------------------------------------------------------------
    def join(self, writer: Writer) -> None:
        """Take on a driver, whose meanings the groups know already, and write its values."""
        writer.joined_mid_step = bool(self._depth) and _steps_under_way(self.optimizer()) > 0
        self.writers = (*self.writers, writer)
        self._settled_ids = []
        if not self._handles:
            self._hang()
        self._own_tensors()
        writer.plan(self.groups)
        writer.write()

    def take_over(self, writer: Writer, known: Sequence[Reading | None]) -> None:
        """Take on the copy of a driver, with what the original knew of the groups, in their order."""
        self.find_groups(unclear="later")
        for group, reading in zip(self.groups, known, strict=True):
            group.readings[writer.driver] = Reading() if reading is None else reading
        self.join(writer)

    def leave(self, driver: Any) -> None:
        """Take a driver off, and with the last one the hooks."""
        self.writers = tuple(writer for writer in self.writers if writer.driver is not driver)
        self._settled_ids = []
        for known in [*self.groups, *self._taken_out]:
            known.forget(driver)
        if not self.writers:
            self._unhang()

    def _hang(self) -> None:
        """Put the hooks on the optimizer."""
        optimizer = self.optimizer()
        tracing, before, after = hooks_for_torch()
        if tracing is not None:
            self._tracing = tracing
        # Bound methods that the harness does not hold itself: it would be in a cycle with them.
        self._handles = [
            optimizer.register_step_pre_hook(MethodType(before if tracing is None else Harness.before_step, self)),
            optimizer.register_step_post_hook(MethodType(after if tracing is None else Harness.after_step, self)),
            optimizer.register_load_state_dict_post_hook(self.after_load),
        ]
        self._unpatch = _notice_added_groups(optimizer, self)
        _harnesses[optimizer] = weakref.ref(self)

    def _unhang(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        if self._unpatch is not None:
            self._unpatch()
        optimizer = self.optimizer()
        if optimizer is not None and harness_of(optimizer) is self:
            del _harnesses[optimizer]

    # --- hooks -------------------------------------------------------------------------------------------------------
    def before_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Write again what was written after the last step: a group may be new, or a state loaded."""
        if self._tracing() is not None:
            hooks_for_torch()[1](self, optimizer, args, kwargs)
            return
        if optimizer is not self.optimizer():
            return
        if (self._depth or _DCP in sys.modules) and not self._begins(optimizer):
            return
        self._depth = 1
        if self._on_gpu and self._is_captured():
            return  # every replay would write the values of now
        if self._settled_ids != list(map(id, optimizer.param_groups)) or not self._settled_ids:
            self.find_groups()
        if "step" in optimizer.__dict__ and not self._warned:
            self._warn_of_scheduler(optimizer)
        for writer in self.writers:
            writer.joined_mid_step = False
            writer.write()

    def after_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Count the step, and write the values of the next."""
        if self._tracing() is not None:
            hooks_for_torch()[2](self, optimizer, args, kwargs)
            return
        if optimizer is not self.optimizer() or (self._depth != 1 and not self._ends(optimizer)):
            return
        self._depth = 0
        found_inf = getattr(optimizer, "found_inf", None)  # of GradScaler: a fused optimizer skips the step by itself
        if found_inf is not None and float(found_inf):
            return
        failed: BaseException | None = None
        for writer in self.writers:
            if writer.counts and not writer.joined_mid_step:
                try:
                    writer.count()
                except Exception as error:  # the other drivers count the step all the same
                    failed = failed or error
        if failed is not None:
            raise failed

    def _begins(self, optimizer: Any) -> bool:
        """Whether a step begins that counts: not one that another step calls, and not one for a checkpoint."""
        if self._depth and _steps_under_way(optimizer) > 1:  # `super().step()`
            self._depth += 1
            return False
        self._depth = 0
        return _DCP not in sys.modules or bool(optimizer.state) or not _is_for_a_checkpoint()

    def _ends(self, optimizer: Any) -> bool:
        """Whether a step ends that counts; with a depth of 0 it began before the first driver, or does not count."""
        if self._depth > 1 and _steps_under_way(optimizer) > 1:
            self._depth -= 1
            return False
        return self._depth > 0

    def _is_captured(self) -> bool:
        """Whether the step is captured in a CUDA graph. Raises `OptimizerError` if a driver is to count it."""
        if not importlib.import_module("torch").cuda.is_current_stream_capturing():
            return False
        if any(writer.counts for writer in self.writers):
            raise OptimizerError(
                "This step is being captured in a CUDA graph, whose replays run no hook, so that they would not be "
                "counted. Count them yourself: driver = ms.drive(optimizer, manual=True, ...), and driver.step() "
                "after each replay."
            )
        return True

    def _warn_of_scheduler(self, optimizer: Any) -> None:
        """Warn, once, if a scheduler of torch is on the optimizer and a driven value was set since it was written."""
        names = [name for writer in self.writers if (name := writer.overwritten()) is not None]
        if names and getattr(optimizer.step, "_wrapped_by_lr_sched", False):
            self._warned = True
            warnings.warn(
                f"A scheduler of torch, or of a search for a rate that is made of one, sets {names[0]} of this "
                "optimizer, which ms.drive drives: what it sets is overwritten before each step. Leave out the "
                "scheduler, or end the driver with driver.detach().",
                UserWarning,
                stacklevel=2,
            )

    def after_load(self, optimizer: Any) -> None:
        """Write into the groups that were loaded."""
        if optimizer is self.optimizer():
            self.find_groups(unclear="later")
            self.write()

    # --- values ------------------------------------------------------------------------------------------------------
    def write(self) -> None:
        for writer in self.writers:
            writer.write()

    def forget_values(self, driver: Any) -> None:
        """Have a driver evaluate its schedules again, when its clock is set."""
        for writer in self.writers:
            if writer.driver is driver:
                writer.forget_values()

    # --- groups ------------------------------------------------------------------------------------------------------
    def find_groups(self, unclear: Unclear = "raise") -> None:
        """Find out which groups there are now, and decide what new ones mean.

        Raises `OptimizerError` where that is unclear, unless `unclear` is "later", for callers that must not raise.
        """
        groups = self.optimizer().param_groups
        if list(map(id, groups)) != self._settled_ids or not self._settled_ids:
            self._settled_ids = []
            self._recognise(groups)
            if self._decide(unclear):
                self._settled_ids = list(map(id, groups))

    def _recognise(self, groups: list[Group]) -> None:
        """Find each group among those known: by its dict, by its list of parameters, or by the parameters."""
        known = {id(each): each for each in [*self.groups, *self._taken_out]}
        left, by_dict, by_list = dict(known), _by_id(self.groups, "group"), _by_id(self.groups, "params")
        found: dict[int, KnownGroup] = {}
        for known_as in (
            lambda group: by_dict.get(id(group)),
            lambda group: by_list.get(id(group["params"])),
            lambda group: next((each for each in left.values() if each.is_again(group)), None),
            KnownGroup,
        ):
            for group in groups:
                match = None if id(group) in found else known_as(group)
                if match is not None and (id(match) in left or known_as is KnownGroup):
                    found[id(group)] = left.pop(id(match), match)
        self.groups = [found[id(group)] for group in groups]
        for each, group in zip(self.groups, groups, strict=True):
            each.group, each.params = group, group["params"]
        self._taken_out = [each for key, each in known.items() if key in left and each.may_return()]
        self._on_gpu = any(getattr(p, "is_cuda", False) for group in groups for p in group["params"][:1])
        for each in self.groups:
            for writer in self.writers:
                self._read_own(each, writer.driver)

    def _read_own(self, known: KnownGroup, driver: Any) -> None:
        reading = known.reading(driver)
        for setting in driver.settings:
            rule = setting.rule_of(reading.index, known.group)
            if rule is not None and setting.name not in reading.own:
                with suppress(MultischedError):  # raised before the next step, when the meaning is decided
                    reading.own[setting.name] = own_value(setting.name, rule, known.group)

    def _decide(self, unclear: Unclear) -> bool:
        """Decide what new groups mean. False where that is unclear, and is not raised."""
        clear = True
        for writer in self.writers:
            try:
                for known in self.groups:
                    writer.driver.decide(known)
            except MultischedError:
                if unclear == "raise":
                    raise
                clear = False
            self._own_tensors()
            writer.plan(self.groups)
        return clear

    def _own_tensors(self) -> None:
        for known in self.groups:
            known.own_tensors()


def _by_id(groups: list[KnownGroup], attribute: Literal["group", "params"]) -> dict[int, KnownGroup]:
    return {id(getattr(known, attribute)): known for known in groups}


def harness_of(optimizer: Any) -> Harness | None:
    """The harness of an optimizer, if it is driven."""
    ref = _harnesses.get(optimizer)
    return None if ref is None else ref()


def _notice_added_groups(optimizer: Any, harness: Harness) -> Callable[[], None]:
    """Read the own values of a group when it is added: before the next step, a checkpoint may be loaded into it."""
    before = optimizer.__dict__.get("add_param_group")
    of_class = type(optimizer).add_param_group
    refs = weakref.ref(optimizer), weakref.ref(harness)

    def add_param_group(*args: Any, **kwargs: Any) -> Any:
        optimizer, harness = refs[0](), refs[1]()
        if harness is not None and harness.writers:
            harness.find_groups(unclear="later")  # so that a group that was taken out before is not taken for this one
        result = before(*args, **kwargs) if before is not None else of_class(optimizer, *args, **kwargs)
        if harness is not None and harness.writers:
            harness.find_groups(unclear="later")
        return result

    def unpatch() -> None:
        optimizer = refs[0]()
        if optimizer is not None and optimizer.__dict__.get("add_param_group") is add_param_group:
            del optimizer.add_param_group
            if before is not None:
                optimizer.add_param_group = before

    optimizer.add_param_group = add_param_group
    return unpatch


def _refuse_copy() -> NoReturn:
    raise OptimizerError(
        "This optimizer's class copies its hooks, and a driver is one of them. Call driver.detach() first, copy, and "
        "drive both again; or save optimizer.state_dict() and driver.state_dict()."
    )


# --- steps -----------------------------------------------------------------------------------------------------------
@cache
def hooks_for_torch() -> tuple[Callable[[], Any] | None, Callable[..., None], Callable[..., None]]:
    """The two hooks as `torch.compile` calls them and does not trace them, and what tells whether it would.

    So a compiled step goes on before and after the hooks, and is not compiled again for each count. A call of one of
    these two costs as much as to write the values; so the plain hooks are hung, which call them only while the first
    returns something. A version of torch that does not tell has None in its place, and then these two are hung.
    """
    apart: Any = importlib.import_module("torch.compiler").disable
    before, after = apart(Harness.before_step), apart(Harness.after_step)
    try:
        tracing: Any = importlib.import_module("torch._C._dynamo.eval_frame").get_eval_frame_callback
        skip = importlib.import_module("torch._dynamo.decorators").skip
        skip(Harness.before_step)
        skip(Harness.after_step)
    except (ImportError, AttributeError):  # these are not public
        return None, before, after
    return tracing, before, after


def _steps_under_way(optimizer: Any) -> int:
    """How many calls of torch's wrapper around `step` are on the stack for this optimizer.

    A class that overrides `step` and calls `super().step()` runs the hooks twice, if its base class was instantiated,
    too. A flag would not do, since a step that raises runs no hook that could reset it.
    """
    frame: Any = sys._getframe(1)
    count = 0
    while frame is not None:
        code = frame.f_code
        if "wrapper" in code.co_name and code.co_filename.endswith("optimizer.py"):
            count += frame.f_locals.get("self") is optimizer
        frame = frame.f_back
    return count


_DCP = "torch.distributed.checkpoint.state_dict"


def _is_for_a_checkpoint() -> bool:
    """Whether torch's distributed checkpoints take this step, at a rate of 0, only so that there is a state to load."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "_init_optim_state" and frame.f_globals.get("__name__") == _DCP:
            return True
        frame = frame.f_back
    return False
