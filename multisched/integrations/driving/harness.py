"""What `drive` hangs on one torch optimizer, and how the values get into its groups.

The optimizer owns its harness, through the hooks; drivers and this module refer to both weakly. The harness refers to
parameters, whose own hooks may refer to the optimizer (an optimizer step in the backward pass): whoever held it would
keep the optimizer alive.
"""

import importlib
import sys
import warnings
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from types import MethodType
from typing import Any, NoReturn

from multisched.errors import MultischedError, OptimizerError
from multisched.integrations.driving.meaning import own_value
from multisched.integrations.driving.members import Line, Member, becomes_tensor, tensors_for
from multisched.integrations.driving.settings import Group

_harnesses: "weakref.WeakKeyDictionary[Any, weakref.ref[Harness]]" = weakref.WeakKeyDictionary()


class Harness:
    """The hooks of one optimizer, the groups that they have seen, and the drivers that write into them."""

    def __init__(self, optimizer: Any):
        self.optimizer: Callable[[], Any] = weakref.ref(optimizer)
        self.members: list[Member] = []
        self.gone: list[Member] = []
        self.lines: tuple[Line, ...] = ()
        self._ids: list[int] = []
        """The groups that are settled, by their ids; empty where something is unclear or a driver has come or gone."""
        self._handles: list[Any] = []
        self._unpatch: Callable[[], None] | None = None
        self._depth = 0
        self._quiet = False
        self._told = False
        self._on_gpu = False
        self._tracing: Callable[[], Any] = lambda: None

    def __deepcopy__(self, memo: Any) -> NoReturn:
        _refuse_copy()

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        _refuse_copy()

    # --- hooks -------------------------------------------------------------------------------------------------------
    def _hang(self) -> None:
        """Put the hooks on the optimizer."""
        optimizer = self.optimizer()
        tracing, before, after = hooks_for_torch()
        if tracing is not None:
            self._tracing = tracing
        # Bound methods that the harness does not hold itself: there would be a cycle.
        self._handles = [
            optimizer.register_step_pre_hook(MethodType(before if tracing is None else Harness.before_step, self)),
            optimizer.register_step_post_hook(MethodType(after if tracing is None else Harness.after_step, self)),
            optimizer.register_load_state_dict_post_hook(self.after_load),
        ]
        self._unpatch = _notice_added_groups(optimizer, self)
        _harnesses[optimizer] = weakref.ref(self)

    def join(self, line: Line) -> None:
        """Take on a driver, whose meanings are with the members, and write its values."""
        optimizer = self.optimizer()
        line.late = bool(self._depth) and _steps_under_way(optimizer) > 0
        self.lines = (*self.lines, line)
        self._ids = []
        if not self._handles:
            self._hang()
        self._own_tensors()
        line.build(self.members)
        line.write()

    def take_over(self, line: Line, known: list[Any]) -> None:
        """Take on the copy of a driver, with what the original knew of the groups, in their order."""
        self.see(unclear="later")
        for member, (index, own, decided, complete) in zip(self.members, known, strict=True):
            if index is not None:
                member.index_of[line.driver] = index
            member.own[line.driver], member.decided[line.driver] = own, decided
            if complete:
                member.parts[line.driver] = decided
        self.join(line)

    def leave(self, driver: Any) -> None:
        """Take a driver off, and with the last one the hooks."""
        self.lines = tuple(line for line in self.lines if line.driver is not driver)
        self._ids = []
        for member in [*self.members, *self.gone]:
            member.forget(driver)
        if not self.lines:
            for handle in self._handles:
                handle.remove()
            self._handles = []
            if self._unpatch is not None:
                self._unpatch()
            optimizer = self.optimizer()
            if optimizer is not None and harness_of(optimizer) is self:
                del _harnesses[optimizer]

    def before_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Write again what was written after the last step: a group may be new, or a state loaded."""
        if self._tracing() is not None:
            hooks_for_torch()[1](self, optimizer, args, kwargs)
            return
        if optimizer is not self.optimizer():
            return
        if self._depth and _steps_under_way(optimizer) > 1:  # a step that calls another: `super().step()`
            self._depth += 1
            return
        self._depth = 1
        self._quiet = _DCP in sys.modules and not optimizer.state and _only_creates_state()
        if self._quiet:
            self._depth = 0
            return
        if self._on_gpu and importlib.import_module("torch").cuda.is_current_stream_capturing():
            if any(line.counts for line in self.lines):
                raise OptimizerError(
                    "This step is being captured in a CUDA graph, whose replays run no hook, so that they would not be "
                    "counted. Count them yourself: driver = ms.drive(optimizer, manual=True, ...), and driver.step() "
                    "after each replay."
                )
            return  # a value written now would be written again by every replay
        if self._ids != list(map(id, optimizer.param_groups)) or not self._ids:
            self.see()
        if "step" in optimizer.__dict__ and not self._told:
            self._tell_of_scheduler(optimizer)
        for line in self.lines:
            line.late = False
            line.write()

    def after_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Count the step, and write the values of the next."""
        if self._tracing() is not None:
            hooks_for_torch()[2](self, optimizer, args, kwargs)
            return
        if optimizer is not self.optimizer() or self._quiet or not self._depth:  # driven in the middle of the step
            return
        if self._depth > 1 and _steps_under_way(optimizer) > 1:
            self._depth -= 1
            return
        self._depth = 0
        found_inf = getattr(optimizer, "found_inf", None)  # of GradScaler: a fused optimizer skips by itself
        if found_inf is not None and float(found_inf):
            return
        failed: BaseException | None = None
        for line in self.lines:
            if line.counts and not line.late:
                line.values = None  # before the count: whatever comes between, values are never those of another count
                line.clock.count += 1
                try:
                    line.write()
                except Exception as error:  # the other drivers count the step all the same
                    failed = failed or error
        if failed is not None:
            raise failed

    def _tell_of_scheduler(self, optimizer: Any) -> None:
        """Warn, once, if a scheduler of torch is on the optimizer and what is driven was set since."""
        names = [name for line in self.lines if (name := line.overwritten()) is not None]
        if names and getattr(optimizer.step, "_wrapped_by_lr_sched", False):
            self._told = True
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
            self.see(unclear="later")
            self.write()

    def write(self) -> None:
        for line in self.lines:
            line.write()

    def forget_values(self, driver: Any) -> None:
        """Have a driver evaluate its schedules again, when its clock is set."""
        for line in self.lines:
            if line.driver is driver:
                line.values = None

    # --- groups ------------------------------------------------------------------------------------------------------
    def see(self, unclear: str = "raise") -> None:
        """Find out which groups there are now, and what those mean that are new.

        Raises `OptimizerError` where that is unclear, unless `unclear` is "later", for what must not raise.
        """
        groups = self.optimizer().param_groups
        if list(map(id, groups)) != self._ids or not self._ids:
            self._ids = []
            self._recognise(groups)
            if self._decide(unclear):
                self._ids = list(map(id, groups))

    def _recognise(self, groups: list[Group]) -> None:
        """Find each group among those known: by its dict, by its list of parameters, or by the parameters."""
        left = {id(member): member for member in [*self.members, *self.gone]}
        known = list(left.values())
        by_group = {id(member.group): member for member in self.members}
        by_list = {id(member.params): member for member in self.members}
        found: dict[int, Member] = {}
        for group in groups:
            if id(group) in by_group and id(group) not in found:
                found[id(group)] = left.pop(id(by_group[id(group)]))
        for group in groups:
            member = by_list.get(id(group["params"]))
            if id(group) not in found and member is not None and id(member) in left:
                found[id(group)] = left.pop(id(member))
        for group in groups:
            if id(group) not in found:
                again = next((member for member in left.values() if member.is_again(group)), None)
                found[id(group)] = Member(group) if again is None else left.pop(id(again))
        self.members = [found[id(group)] for group in groups]
        for member, group in zip(self.members, groups, strict=True):
            member.group, member.params = group, group["params"]
        self.gone = [member for member in known if id(member) in left and member.may_return()]
        self._on_gpu = any(getattr(p, "is_cuda", False) for group in groups for p in group["params"][:1])
        for member in self.members:
            for line in self.lines:
                self._read_own(member, line)

    def _read_own(self, member: Member, line: Line) -> None:
        own = member.own.setdefault(line.driver, {})
        for setting in line.driver.settings:
            rule = setting.rule_of(member.index_of.get(line.driver), member.group)
            if rule is not None and setting.name not in own:
                with suppress(MultischedError):  # raised before the next step, when the meaning is decided
                    own[setting.name] = own_value(setting.name, rule, member.group)

    def _decide(self, unclear: str) -> bool:
        """Decide what new groups mean. False where that is unclear, and not raised."""
        clear = True
        for line in self.lines:
            try:
                for member in self.members:
                    if line.driver not in member.parts:
                        member.parts[line.driver] = line.driver.meaning(member)
            except MultischedError:
                if unclear == "raise":
                    raise
                clear = False
            self._own_tensors()
            line.build(self.members)
        return clear

    def _own_tensors(self) -> None:
        """Give each driven group tensors of its own, where its values are tensors."""
        for member in self.members:
            for name in {name for parts in member.parts.values() for name in parts}:
                if name not in member.tensors or becomes_tensor(member, name):
                    member.tensors[name] = tensors_for(member.group, name)


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
        if harness is not None and harness.lines:
            harness.see(unclear="later")  # a group that was taken out before is not this one
        result = before(*args, **kwargs) if before is not None else of_class(optimizer, *args, **kwargs)
        if harness is not None and harness.lines:
            harness.see(unclear="later")
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

    So a compiled step goes on before and after the hooks, and is not compiled again for each count. To call these two
    costs as much as to write the values, so that they are called only where what comes first is not None; a version of
    torch that does not tell has None in its place.
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


def _only_creates_state() -> bool:
    """Whether torch's distributed checkpoints take this step, at a rate of 0, only so that there is a state to load."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "_init_optim_state" and frame.f_globals.get("__name__") == _DCP:
            return True
        frame = frame.f_back
    return False
