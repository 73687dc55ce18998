"""`drive` under any sequence of events, beside a model in plain Python of what each group should have."""

import copy
import io
import itertools
import math
import pickle

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import multisched as ms
from multisched import errors

torch = pytest.importorskip("torch", reason="drive is about torch's optimizers, and torch is not installed")


def lr_at(k):
    return max(0.0, 1.0 - 0.03 * k)


def decay_at(k):
    return 0.1 + 0.01 * min(k, 20)


def longer_at(k):
    return max(0.0, 2.0 - 0.01 * k)


LR, DECAY, LONGER = (ms.from_function(f) for f in (lr_at, decay_at, longer_at))
CURVES = {"lr": (LR, lr_at), "longer": (LONGER, longer_at), "weight_decay": (DECAY, decay_at)}


class Group:
    """What the model knows of a group: its own values, read once, and what they mean, decided once."""

    def __init__(self, own, named, factor):
        self.own, self.named, self.factor = own, named, factor
        self.means = {}

    def decide(self, name, mode, groups):
        """What one hyperparameter means: "curve", "own", "scaled", "zero" or "as it is"; None if that is unclear."""
        if mode == "named":
            return "curve" if self.named else "as it is"
        if mode == "relative":
            return "own"
        others = {group.own[name] for group in groups if group.own[name]}
        if len(others) > 1 and mode == "exact":
            return None
        if others and not self.own[name]:
            return "zero"
        return "scaled" if mode == "scaled" else "curve"

    def value(self, name, curve, k):
        """The value at step k; None where the group is left as it is."""
        means = self.means[name]
        factor = 1.0 if self.factor is None else self.factor
        return {
            "curve": lambda: curve(k),
            "own": lambda: self.own[name] * curve(k),
            "scaled": lambda: curve(k) * factor,
            "zero": lambda: 0.0,
            "as it is": lambda: None,
        }[means]()


RATES = st.sampled_from([0.5, 0.5, 0.0, 0.25])
DECAYS = st.sampled_from([0.0, 0.125])
PICKS = st.integers(0, 100)


class Events(RuleBasedStateMachine):
    """One optimizer, a driver of its rate and decay, and what may happen to both."""

    @initialize(
        mode=st.sampled_from(["exact", "relative", "named", "scaled"]),
        rates=st.lists(RATES, min_size=1, max_size=3),
        decays=st.lists(DECAYS, min_size=3, max_size=3),
        kind=st.sampled_from(["float", "tensor", "fused"]),
        data=st.data(),
    )
    def make(self, mode, rates, decays, kind, data):
        """Drive an optimizer; where it is unclear what the rate means, nothing is written, and another mode is used."""
        self.names = (f"g{i}" for i in itertools.count())
        self.mode, self.kind = mode, kind
        self.curve, self.popped = "lr", []
        groups = [
            self.new_group(rate, decay, i == 0 or data.draw(st.booleans()))
            for i, (rate, decay) in enumerate(zip(rates, decays, strict=False))
        ]
        self.optimizer = torch.optim.SGD(
            [given for given, _ in groups], lr=torch.tensor(0.5) if kind == "tensor" else 0.5, fused=kind == "fused"
        )
        self.model = [model for _, model in groups]
        self.seen, self.observer = [], None
        self.count = 0
        if mode == "exact" and len({rate for rate in rates[: len(groups)] if rate}) > 1:
            before = [dict(group) for group in self.optimizer.param_groups]
            with pytest.raises(errors.OptimizerError, match="relative"):
                self.drive()
            assert [dict(group) for group in self.optimizer.param_groups] == before
            assert not self.optimizer._optimizer_step_pre_hooks
            assert not self.optimizer._optimizer_step_post_hooks
            self.mode = "relative"
        self.drive()

    def new_group(self, rate, decay, marked):
        p = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
        given = {"params": [p], "lr": rate, "weight_decay": decay, "name": "marked" if marked else next(self.names)}
        if marked:
            given["factor"] = 0.5
        return given, Group({"lr": rate, "weight_decay": decay}, marked, 0.5 if marked else None)

    def drive(self, **options):
        curve = CURVES[self.curve][0]
        given = {
            "exact": {"lr": curve},
            "relative": {"lr": ms.relative(curve)},
            "named": {"lr": {"marked": curve}},
            "scaled": {"lr": curve, "scale": {"lr": "factor"}},
        }[self.mode]
        self.driver = ms.drive(self.optimizer, weight_decay=DECAY, **given, **options)
        self.observe()
        self.resolve()

    def observe(self):
        """See what the groups have in the middle of each step, by a hook that runs after all others."""
        if self.observer is not None:
            self.observer.remove()

        def see(optimizer, *_):
            groups = optimizer.param_groups
            self.seen.append([{"lr": float(g["lr"]), "weight_decay": g["weight_decay"]} for g in groups])

        self.observer = self.optimizer.register_step_pre_hook(see)

    # --- the model ---------------------------------------------------------------------------------------------------
    def resolve(self):
        """Decide what new groups mean. False while that is unclear for one of them."""
        for group in self.model:
            for name, mode in (("lr", self.mode), ("weight_decay", "exact")):
                if group.means.get(name) is None:
                    group.means[name] = group.decide(name, mode, self.model)
        return all(all(group.means.values()) for group in self.model)

    def expected(self, k):
        curves = {"lr": CURVES[self.curve][1], "weight_decay": decay_at}
        return [{name: group.value(name, curve, k) for name, curve in curves.items()} for group in self.model]

    def close(self, have, wanted):
        """Equal; in a tensor of float32, up to its rounding."""
        if wanted is None:
            return True
        return (
            math.isclose(float(have), wanted, rel_tol=1e-6, abs_tol=1e-9) if self.kind == "tensor" else have == wanted
        )

    def check(self, groups, k):
        for have, wanted in zip(groups, self.expected(k), strict=True):
            for name in ("lr", "weight_decay"):
                assert self.close(have[name], wanted[name]), (name, k, have[name], wanted[name])

    # --- steps -------------------------------------------------------------------------------------------------------
    def gradients(self):
        for group in self.optimizer.param_groups:
            for p in group["params"]:
                p.grad = torch.ones_like(p)

    def stepped(self, step, counts=True, called=True):
        """Take a step, and check what every group had in it, where the parameters went, and what is written after."""
        self.gradients()
        before = [[p.item() for p in group["params"]] for group in self.optimizer.param_groups]
        self.seen.clear()
        if not self.resolve():
            if called:
                with pytest.raises(errors.OptimizerError, match="relative"):
                    step()
            else:
                step()
            assert [[p.item() for p in group["params"]] for group in self.optimizer.param_groups] == before
            return
        step()
        for groups in self.seen:
            self.check(groups, self.count)
        if not counts:
            assert [[p.item() for p in group["params"]] for group in self.optimizer.param_groups] == before
            return
        assert self.seen
        for group, had, values in zip(self.optimizer.param_groups, self.seen[0], before, strict=True):
            for p, value in zip(group["params"], values, strict=True):
                wanted = value - float(had["lr"]) * (1 + had["weight_decay"] * value)
                assert math.isclose(p.item(), wanted, rel_tol=1e-5, abs_tol=1e-7)
        self.count += 1
        self.check(self.optimizer.param_groups, self.count)

    @rule()
    def step(self):
        self.stepped(self.optimizer.step)

    @rule(times=st.integers(1, 3))
    def step_with_a_closure(self, times):
        """One step, however often the closure is called."""
        self.stepped(lambda: self.optimizer.step(lambda: torch.tensor(float(times))))

    @rule(bad=st.booleans())
    def scaled_step(self, bad):
        """GradScaler skips a step by not calling the optimizer, or leaves it to a fused one."""
        scaler = torch.amp.GradScaler("cpu", init_scale=1.0)

        def step():
            for group in self.optimizer.param_groups:
                for p in group["params"]:
                    p.grad = scaler.scale(torch.ones_like(p) * (math.inf if bad else 1.0))
            scaler.step(self.optimizer)
            scaler.update()

        self.stepped(step, counts=not bad, called=not bad or hasattr(self.optimizer, "_step_supports_amp_scaling"))

    @rule()
    def a_step_that_fails(self):
        """A step that raises does not count, and the next is none the worse."""
        if self.resolve():

            def closure():
                raise KeyError("data")

            with pytest.raises(KeyError):
                self.optimizer.step(closure)

    @rule()
    def accumulate(self):
        """Gradients without a step, and calls of the scheduler, change nothing."""
        self.gradients()
        self.driver.step()

    # --- groups ------------------------------------------------------------------------------------------------------
    @precondition(lambda self: len(self.model) < 6)
    @rule(rate=RATES, decay=DECAYS, marked=st.booleans())
    def add_a_group(self, rate, decay, marked):
        given, model = self.new_group(rate, decay, marked)
        self.optimizer.add_param_group(given)
        self.resolve()
        self.model.append(model)
        self.resolve()

    @precondition(lambda self: len(self.model) > 1)
    @rule(pick=PICKS)
    def freeze(self, pick):
        """Take a group out of the optimizer."""
        pick %= len(self.model)
        self.popped.append((self.optimizer.param_groups.pop(pick), self.model.pop(pick)))

    @precondition(lambda self: self.popped)
    @rule()
    def unfreeze(self):
        """Put a group back, which means what it meant."""
        group, model = self.popped.pop()
        self.optimizer.param_groups.append(group)
        self.model.append(model)

    @rule()
    def reverse(self):
        self.optimizer.param_groups.reverse()
        self.model.reverse()

    @rule(pick=PICKS, value=st.sampled_from([0.0, 7.0]), name=st.sampled_from(["lr", "weight_decay"]))
    def by_hand(self, pick, value, name):
        """What is written by hand is overwritten before the next step, unless the group is not driven."""
        group = self.optimizer.param_groups[pick % len(self.model)]
        if isinstance(group[name], torch.Tensor) and value:
            group[name].fill_(value)
        else:
            group[name] = value

    # --- states ------------------------------------------------------------------------------------------------------
    @rule(first=st.booleans(), rate=st.sampled_from([0.0, 3.0]), scheduler=st.booleans(), count=st.integers(0, 40))
    def load(self, first, rate, scheduler, count):
        """Load checkpoints in either order; the optimizer's is of another rate, with or without a torch scheduler."""
        if not self.resolve():
            return
        groups = [
            {"params": [torch.nn.Parameter(torch.ones(1)) for _ in g["params"]]} for g in self.optimizer.param_groups
        ]
        other = torch.optim.SGD(groups, lr=rate)
        if scheduler:
            torch.optim.lr_scheduler.LambdaLR(other, lambda k: 0.3)
        state = other.state_dict()
        for saved, mine in zip(state["param_groups"], self.optimizer.param_groups, strict=True):
            saved["fused"] = mine["fused"]
            saved.update({key: mine[key] for key in ("name", "factor") if key in mine})
        parts = [lambda: self.optimizer.load_state_dict(state), lambda: self.driver.load_state_dict({"count": count})]
        for part in parts if first else parts[::-1]:
            part()
        self.count = count
        self.popped.clear()  # those have values of before
        self.check(self.optimizer.param_groups, count)

    @rule(way=st.sampled_from(["deepcopy", "pickle", "torch.save"]), driver_first=st.booleans())
    def copied(self, way, driver_first):
        """Go on with copies of both; the originals go on as well."""
        both = (self.driver, self.optimizer) if driver_first else (self.optimizer, self.driver)
        if way == "deepcopy":
            both = copy.deepcopy(both)
        elif way == "pickle":
            both = pickle.loads(pickle.dumps(both))
        else:
            torch.save(both, buffer := io.BytesIO())
            buffer.seek(0)
            both = torch.load(buffer, weights_only=False)
        self.driver, self.optimizer = both if driver_first else both[::-1]
        assert self.driver.optimizer is self.optimizer
        self.popped.clear()
        self.observe()

    @rule(curve=st.sampled_from(["lr", "longer"]))
    def replace(self, curve):
        """A second driver is refused, with the first in the error; `replace` starts from the same own values."""
        marked = any(group.named for group in self.model)
        if not self.resolve() or (self.mode in ("named", "scaled") and not marked):
            return
        old, before = self.driver, (self.curve, self.count, [group.means for group in self.model])
        with pytest.raises(errors.OptimizerError, match="replace=True") as raised:
            ms.drive(self.optimizer, weight_decay=DECAY)
        assert raised.value.driver is old
        self.curve, self.count = curve, 0
        for group in self.model:
            group.means = {}
        if self.resolve():
            self.popped.clear()
            self.drive(replace=True)
            with pytest.raises(errors.OptimizerError, match="detached"):
                old.load_state_dict({"count": 3})
        else:  # what was clear group by group is not for all at once: the first driver goes on
            with pytest.raises(errors.OptimizerError, match="relative"):
                self.drive(replace=True)
            self.curve, self.count, means = before
            for group, meant in zip(self.model, means, strict=True):
                group.means = meant

    @rule()
    def detach_and_drive_again(self):
        """A detached driver leaves the last values, which are then the own values of the next."""
        marked = any(group.named for group in self.model)
        if not self.resolve() or (self.mode in ("named", "scaled") and not marked):
            return
        self.stepped(self.optimizer.step)
        self.driver.detach()
        last = [(float(group["lr"]), group["weight_decay"]) for group in self.optimizer.param_groups]
        for _ in range(2):
            self.optimizer.step()
            assert [(float(g["lr"]), g["weight_decay"]) for g in self.optimizer.param_groups] == last
        assert self.driver.count == self.count
        for group, (rate, decay) in zip(self.model, last, strict=True):
            group.own, group.means = {"lr": rate, "weight_decay": decay}, {}
        if not self.resolve():
            self.mode = "relative"
            for group in self.model:
                group.means = {}
        if self.resolve():
            self.count = 0
            self.popped.clear()
            self.drive()
        else:  # decays of groups that were added to others of 0 differ
            with pytest.raises(errors.OptimizerError, match="weight_decay"):
                self.drive()
            self.optimizer.param_groups[:], self.model[:] = self.optimizer.param_groups[:1], self.model[:1]
            self.model[0].means, self.count, self.mode = {}, 0, "exact"
            self.popped.clear()
            self.drive()

    @invariant()
    def count_and_values(self):
        """The count is that of the model, in the driver and in its state; values are those of the groups."""
        if hasattr(self, "driver"):
            assert self.driver.count == self.count
            assert self.driver.state_dict() == {"count": self.count}
            assert self.driver.values()["lr"] == [float(group["lr"]) for group in self.optimizer.param_groups]


TestEvents = Events.TestCase
TestEvents.settings = settings(stateful_step_count=30)
