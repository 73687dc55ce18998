"""`drive` where it meets what people do with optimizers: steps, tensors, and input that is unclear."""

import contextlib
import copy
import json
import math
import re
import warnings
import weakref

import numpy as np
import pytest

import multisched as ms
from multisched import errors

torch = pytest.importorskip("torch", reason="drive is about torch's optimizers, and torch is not installed")

from helpers_drive import groups, parameter, rates, untouched  # noqa: E402  # it imports torch

LR = ms.linear(1.0, 0.0, 100)


# --- what is unclear -------------------------------------------------------------------------------------------------
def test_values_that_differ_are_unclear():
    """The error shows the values and the three ways to say what is meant; each of them works."""
    optimizer = torch.optim.SGD(groups(0.1, 0.01, 0.0, factor=0.5), lr=0.1)
    with pytest.raises(errors.OptimizerError) as raised:
        ms.drive(optimizer, lr=LR)
    text = str(raised.value)
    assert all(word in text for word in ("0.1, 0.01, 0", "ms.relative(schedule)", "{0: schedule", "scale={'lr': "))
    assert raised.value.driver is None
    assert rates(optimizer) == [0.1, 0.01, 0.0]
    assert untouched(optimizer)
    ways = {
        "relative": ({"lr": ms.relative(LR)}, [0.1, 0.01, 0.0]),
        "groups": ({"lr": {0: LR, 2: LR}}, [1.0, 0.01, 1.0]),
        "scale": ({"lr": LR, "scale": {"lr": "factor"}}, [0.5, 0.5, 0.0]),
    }
    for given, wanted in ways.values():
        optimizer = torch.optim.SGD(groups(0.1, 0.01, 0.0, factor=0.5), lr=0.1)
        ms.drive(optimizer, **given)
        assert rates(optimizer) == wanted


def test_zeros():
    """Zero beside another value stays zero; where all are zero, all get the schedule; so part by part in tuples."""
    optimizer = torch.optim.SGD(groups(0.1, 0.0), lr=0.1)
    ms.drive(optimizer, lr=LR, weight_decay=ms.constant(0.5))
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [(1.0, 0.5), (0.0, 0.5)]
    optimizer = torch.optim.Adam(
        [{"params": [parameter()]}, {"params": [parameter()], "betas": (0.0, 0.99)}], betas=(0.9, 0.99)
    )
    ms.drive(optimizer, betas=(ms.constant(0.5), 0.8))
    assert [g["betas"] for g in optimizer.param_groups] == [(0.5, 0.8), (0.0, 0.8)]


def test_parts_of_tuples():
    """A part of a tuple may be relative; a number for values that differ is unclear."""
    given = [{"params": [parameter()]}, {"params": [parameter()], "betas": (0.5, 0.99)}]
    optimizer = torch.optim.Adam(given, betas=(0.9, 0.9))
    with pytest.raises(errors.OptimizerError, match=r"0\.9, 0\.99"):
        ms.drive(optimizer, betas=(ms.relative(ms.constant(0.5)), 0.8))
    ms.drive(optimizer, betas={0: (ms.relative(ms.constant(0.5)), 0.8), 1: (0.1, ms.relative(ms.constant(1.0)))})
    assert [g["betas"] for g in optimizer.param_groups] == [(0.45, 0.8), (0.1, 0.99)]


BAD = {
    "no such group": (lambda o: {"lr": {5: LR}}, errors.OptimizerError, "groups 0 to 2"),
    "a negative index": (lambda o: {"lr": {-1: LR}}, errors.OptimizerError, "no group -1"),
    "a bool as an index": (lambda o: {"lr": {True: LR}}, errors.OptimizerError, "no group True"),
    "a name and an index": (lambda o: {"lr": {"a": LR, 0: LR}}, errors.OptimizerError, "two rules"),
    "a name that is an index": (lambda o: {"lr": {1: LR}}, errors.OptimizerError, "Name the groups by strings"),
    "no groups": (lambda o: {"lr": {}}, errors.NotARule, "empty"),
    "None": (lambda o: {"lr": None}, errors.NotARule, "None"),
    "None for a group": (lambda o: {"lr": {"a": None}}, errors.NotARule, "None"),
    "relative of a number": (lambda o: {"lr": ms.relative(0.1)}, errors.NotARule, "0.1"),
    "relative twice": (lambda o: {"lr": ms.relative(ms.relative(LR))}, errors.NotARule, "relative(linear"),
    "a key that no group has": (lambda o: {"lr": LR, "scale": {"lr": "x"}}, errors.OptimizerError, "'x'"),
    "a factor that is no number": (lambda o: {"lr": LR, "scale": {"lr": "name"}}, errors.OptimizerError, "'a'"),
    "scale of what is not driven": (
        lambda o: {"lr": LR, "scale": {"momentum": "f"}},
        errors.OptimizerError,
        "'momentum'",
    ),
    "scale and relative": (lambda o: {"lr": ms.relative(LR), "scale": {"lr": "f"}}, errors.OptimizerError, "own value"),
    "scale that is no dict": (lambda o: {"lr": LR, "scale": "f"}, errors.OptimizerError, "'f'"),
    "what one group lacks": (lambda o: {"lr": LR, "extra": LR}, errors.OptimizerError, "Group 1 has no"),
    "a flag": (lambda o: {"nesterov": LR}, errors.OptimizerError, "finite number"),
    "NaN": (lambda o: {"lr": ms.from_function(lambda k: math.nan)}, errors.OptimizerError, "nan"),
    "infinity": (lambda o: {"lr": ms.from_function(lambda k: math.inf)}, errors.OptimizerError, "inf"),
    "NaN in a tuple": (lambda o: {"lr": (math.nan,)}, errors.NotARule, "finite"),
    "plateau of another kind": (lambda o: {"lr": LR, "plateau": LR}, errors.NotARule, "ms.plateau(1.0)"),
    "plateau without lr": (
        lambda o: {"momentum": ms.constant(0.9), "plateau": ms.plateau(1.0)},
        errors.OptimizerError,
        "multiplies lr",
    ),
    "plateau twice": (lambda o: {"lr": ms.plateau(0.1), "plateau": ms.plateau(1.0)}, errors.OptimizerError, "already"),
}


@pytest.mark.parametrize(("given", "error", "words"), BAD.values(), ids=BAD)
def test_bad_arguments(given, error, words):
    """Each raises its class and says what was given; nothing is written, and no hook stays."""
    optimizer = torch.optim.SGD(groups(0.1, 0.1, 0.1), lr=0.1, momentum=0.9)
    for group, more in zip(optimizer.param_groups, ({"name": "a", "f": 1, "extra": 1}, {}, {"name": 1}), strict=True):
        group.update(more)
    before = [dict(group) for group in optimizer.param_groups]
    with pytest.raises(error, match=re.escape(words)) as raised:
        ms.drive(optimizer, **given(optimizer))
    assert type(raised.value) is error
    assert [dict(group) for group in optimizer.param_groups] == before
    assert untouched(optimizer)


def test_names():
    """A name stands for all groups that have it, and those added later; an index of NumPy is one."""
    optimizer = torch.optim.SGD([*groups(0.1, 0.2, name="a"), *groups(0.3, name="b")], lr=0.1)
    ms.drive(optimizer, lr={"a": LR, np.int64(2): ms.constant(0.5)})
    assert rates(optimizer) == [1.0, 1.0, 0.5]
    optimizer.add_param_group(groups(0.4, name="a")[0])
    optimizer.add_param_group(groups(0.4, name="c")[0])
    optimizer.step()
    assert rates(optimizer) == [0.99, 0.99, 0.5, 0.99, 0.4]


def test_disjoint_drivers():
    """Two drivers share one hyperparameter by groups; a group that is driven already is refused."""
    optimizer = torch.optim.SGD(groups(0.1, 0.2, 0.3), lr=0.1)
    first = ms.drive(optimizer, lr={0: LR})
    second = ms.drive(optimizer, lr={1: ms.constant(0.7)})
    for wanted in (first, second):
        index = 0 if wanted is first else 1
        with pytest.raises(errors.OptimizerError, match="driven already") as raised:
            ms.drive(optimizer, lr={index: LR, 2: LR})
        assert raised.value.driver is wanted
    optimizer.step()
    assert rates(optimizer) == [0.99, 0.7, 0.3]
    first.detach()
    optimizer.step()
    assert (rates(optimizer), first.count, second.count) == ([0.99, 0.7, 0.3], 1, 2)
    second.detach()
    second.detach()
    assert untouched(optimizer)


def test_replacing_again_and_again():
    """A cell that is run again starts from the same own values, however often."""
    optimizer = torch.optim.SGD(groups(0.1, 0.2), lr=0.1)
    for _ in range(5):
        driver = ms.drive(optimizer, lr=ms.relative(LR), replace=True)
        assert (rates(optimizer), driver.count) == ([0.1, 0.2], 0)
        optimizer.step()
        optimizer.step()
        assert driver.count == 2
    assert len(optimizer._optimizer_step_post_hooks) == 1


# --- steps -----------------------------------------------------------------------------------------------------------
def test_a_step_that_calls_super():
    """Torch runs hooks for the class and for its base; the step counts once, also after steps that failed."""

    class Base(torch.optim.SGD):
        def step(self, closure=None):
            return super().step(closure)

    class Mine(Base):
        fails = 0

        def step(self, closure=None):
            if self.fails == 1:
                with contextlib.suppress(ZeroDivisionError):
                    super().step(lambda: 1 / 0)
            result = super().step(closure)
            if self.fails == 2:
                raise KeyError
            return result

    torch.optim.SGD([parameter()]), Base([parameter()])  # from now on their steps run hooks
    optimizer = Mine([parameter()], lr=0.1)
    driver = ms.drive(optimizer, lr=LR)
    for k, fails in enumerate((0, 1, 0)):
        optimizer.fails = fails
        optimizer.step()
        assert driver.count == k + 1
    optimizer.fails = 2
    for _ in range(2):
        with pytest.raises(KeyError):
            optimizer.step()
    optimizer.fails = 0
    optimizer.step()
    assert driver.count == 4
    assert rates(optimizer) == [LR(4)]


def test_lbfgs():
    """A step of LBFGS evaluates its closure many times, at one rate, and counts once."""
    p = torch.nn.Parameter(torch.tensor([3.0]))
    optimizer = torch.optim.LBFGS([p], lr=1.0, max_iter=5)
    driver = ms.drive(optimizer, lr=LR)
    seen = []

    def closure():
        seen.append(rates(optimizer)[0])
        optimizer.zero_grad()
        loss = ((p - 1) ** 4).sum()
        loss.backward()
        return loss

    for k in range(4):
        seen.clear()
        optimizer.step(closure)
        assert set(seen) == {LR(k)}
        assert len(seen) > 1
    assert driver.count == 4


def test_steps_in_the_backward_pass():
    """One optimizer for each parameter, stepped by its gradient's hook: each counts its own and is not kept alive."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    optimizers = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}

    def hook(p, optimizers=optimizers):
        optimizers[p].step()
        optimizers[p].zero_grad()

    hooks = [p.register_post_accumulate_grad_hook(hook) for p in model.parameters()]
    driver = ms.drive(list(optimizers.values()), lr=LR)
    for k in range(3):
        assert driver.get_last_lr() == [LR(k)] * 4
        model(torch.ones(1, 2)).sum().backward()
    model[1].requires_grad_(False)
    model(torch.ones(1, 2, requires_grad=True)).sum().backward()
    assert driver.state_dict() == {"count": [4, 4, 3, 3]}
    driver.load_state_dict(json.loads(json.dumps({"count": [1, 2, 3, 4]})))
    assert driver.values() == {"lr": [LR(1), LR(2), LR(3), LR(4)]}
    gone = [weakref.ref(optimizer) for optimizer in optimizers.values()]
    for handle in hooks:
        handle.remove()  # torch itself does not free a parameter whose hook refers to it
    del model, optimizers, hook
    assert [ref() for ref in gone] == [None] * 4
    assert driver.state_dict() == {"count": [1, 2, 3, 4]}


def test_a_schedule_that_fails():
    """Where a schedule has no value, the step before it is taken and counted, and the next one does not begin."""
    values = [0.5, 0.25, math.nan, None]
    optimizer = torch.optim.SGD([parameter()], lr=0.1)
    driver = ms.drive(optimizer, lr=ms.from_function(lambda k: values[k]))
    p = optimizer.param_groups[0]["params"][0]
    optimizer.step()
    with pytest.raises(errors.OptimizerError, match="nan at 2"):
        optimizer.step()
    assert (driver.count, p[0].item()) == (2, 0.25)
    with pytest.raises(errors.OptimizerError, match="nan at 2"):
        optimizer.step()
    with pytest.raises(errors.OptimizerError, match="nan at 2"):
        driver.load_state_dict({"count": 2})
    assert (driver.count, p[0].item(), rates(optimizer)) == (2, 0.25, [0.25])
    driver.load_state_dict({"count": 0})
    optimizer.step()
    assert driver.count == 1


def test_one_driver_fails_and_another_counts():
    """An exception in one driver's schedule leaves the other's count right."""

    def short(k):
        return [0.5, 0.4][k]

    optimizer = torch.optim.SGD(groups(0.1), lr=0.1, momentum=0.9)
    first = ms.drive(optimizer, lr=ms.from_function(short))
    second = ms.drive(optimizer, momentum=ms.linear(0.9, 0.0, 9))
    optimizer.step()
    with pytest.raises(IndexError):
        optimizer.step()
    assert (first.count, second.count) == (2, 2)


def test_a_group_added_in_the_middle_of_a_step():
    """It is driven from the next step on; an unclear one stops that step before it changes anything."""
    optimizer = torch.optim.SGD(groups(0.1), lr=0.1)
    driver = ms.drive(optimizer, lr=LR)
    new = groups(0.3)[0]
    optimizer.step(lambda: optimizer.add_param_group(new))
    assert driver.count == 1
    p = new["params"][0]
    before = p.detach().clone()
    for _ in range(2):
        with pytest.raises(errors.OptimizerError, match=r"0.1, 0.3"):
            optimizer.step()
    assert torch.equal(p, before)
    with pytest.raises(errors.OptimizerError, match=r"0.1, 0.3"):
        driver.load_state_dict({"count": 7})
    assert driver.count == 1
    optimizer.param_groups.pop()
    optimizer.step()
    assert (driver.count, rates(optimizer)) == (2, [LR(2)])


def test_driven_in_the_middle_of_a_step():
    """A step that began before the driver was there does not count."""
    optimizer = torch.optim.SGD([parameter()], lr=0.1)
    drivers = []
    optimizer.step(lambda: drivers.append(ms.drive(optimizer, lr=LR)))
    assert (drivers[0].count, rates(optimizer)) == (0, [1.0])
    optimizer.step()
    assert (drivers[0].count, rates(optimizer)) == (1, [LR(1)])


def test_a_group_without_the_hyperparameter():
    """A group that is added without what is driven is an error before the next step."""
    optimizer = torch.optim.SGD(groups(0.1, extra=1.0), lr=0.1)
    ms.drive(optimizer, extra=LR)
    optimizer.add_param_group(groups(0.1)[0])
    with pytest.raises(errors.OptimizerError, match="'extra'"):
        optimizer.step()


def test_a_checkpoint_into_a_group_just_added():
    """Its own value is what it was added with, not the checkpoint's."""
    optimizer = torch.optim.SGD(groups(0.1, 0.2), lr=0.1)
    saved = optimizer.state_dict()
    for group in saved["param_groups"]:
        group["lr"] = 7.0
    optimizer = torch.optim.SGD(groups(0.1), lr=0.1)
    ms.drive(optimizer, lr=ms.relative(LR))
    optimizer.add_param_group(groups(0.2)[0])
    optimizer.load_state_dict(saved)
    assert rates(optimizer) == [0.1, 0.2]
    optimizer.step()
    assert rates(optimizer) == [0.1 * LR(1), 0.2 * LR(1)]


def test_parameters_moved_into_a_new_group():
    """A group made of parameters of one that was taken out is a new group, with a value of its own."""
    optimizer = torch.optim.SGD(groups(0.1, 0.2), lr=0.1)
    ms.drive(optimizer, lr=ms.relative(LR))
    taken = optimizer.param_groups.pop()
    optimizer.add_param_group({"params": taken["params"], "lr": 0.5})
    optimizer.step()
    assert rates(optimizer) == [0.1 * LR(1), 0.5 * LR(1)]
    optimizer.param_groups.reverse()
    optimizer.param_groups[0]["params"] = list(optimizer.param_groups[0]["params"])
    optimizer.step()
    assert rates(optimizer) == [0.5 * LR(2), 0.1 * LR(2)]


def test_distributed_checkpoints_of_torch():
    """They take a step at a rate of 0 only to have a state; it moves nothing and does not count."""
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

    model = torch.nn.Linear(2, 1)
    before = model.weight.detach().clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    driver = ms.drive(optimizer, lr=LR, weight_decay=ms.constant(0.5))
    saved = get_optimizer_state_dict(model, optimizer)
    assert torch.equal(model.weight, before)
    assert (driver.count, rates(optimizer)) == (0, [1.0])
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    set_optimizer_state_dict(model, optimizer, saved)
    assert (driver.count, rates(optimizer)) == (1, [LR(1)])


# --- tensors ---------------------------------------------------------------------------------------------------------
def test_one_tensor_for_all_groups():
    """Torch puts one tensor into all groups and its defaults: each group gets its own, and no other is written."""
    rate = torch.tensor(0.5)
    optimizer = torch.optim.SGD([{"params": [parameter()]}, {"params": [parameter()]}], lr=rate)
    ms.drive(optimizer, lr={1: LR})
    optimizer.step()
    assert (rate.item(), rates(optimizer)) == (0.5, [0.5, pytest.approx(0.99)])
    optimizer = torch.optim.SGD([{"params": [parameter()]}, {"params": [parameter()]}], lr=rate)
    ms.drive(optimizer, lr=ms.relative(LR))
    optimizer.step()
    optimizer.add_param_group({"params": [parameter()]})
    optimizer.step()
    assert rates(optimizer) == pytest.approx([0.5 * LR(2)] * 3)
    assert len({id(group["lr"]) for group in optimizer.param_groups}) == 3
    assert (rate.item(), optimizer.defaults["lr"].item()) == (0.5, 0.5)


def test_tensors_of_other_kinds():
    """An integer tensor would round a rate to 0; a tensor of inference mode could not be written outside of it."""
    optimizer = torch.optim.SGD([parameter()], lr=torch.tensor(1))
    ms.drive(optimizer, lr=ms.constant(0.25))
    assert rates(optimizer) == [0.25]
    p = parameter()
    with torch.inference_mode():
        optimizer = torch.optim.SGD([p], lr=torch.tensor(1.0))
        ms.drive(optimizer, lr=LR)
    optimizer.step()
    assert rates(optimizer) == pytest.approx([0.99])


def test_a_compiled_step_is_not_compiled_again():
    """Not after a checkpoint, of floats at that, was loaded, nor after a value was written by hand."""
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    counter = CompileCounter()
    betas = (torch.tensor(0.9), torch.tensor(0.999))
    given = [{"params": [parameter()]}, {"params": [parameter()]}]
    optimizer = torch.optim.Adam(given, lr=torch.tensor(0.1), betas=betas, capturable=True, foreach=False)
    saved = copy.deepcopy(optimizer.state_dict())
    driver = ms.drive(optimizer, lr=LR, betas=(ms.linear(0.9, 0.5, 100), 0.999))
    step = torch.compile(optimizer.step, backend=counter)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of what it imports while it compiles
        step()
    for k in range(1, 20):
        if k == 5:
            state = optimizer.state_dict()
            state["param_groups"] = [{**g, "lr": 3.0} for g in state["param_groups"]]
            optimizer.load_state_dict(state)
        if k == 8:
            optimizer.param_groups[0]["lr"].data.fill_(9.0)
            optimizer.param_groups[1]["lr"] = torch.tensor(9.0)
        step()
        assert driver.count == k + 1
        assert rates(optimizer) == pytest.approx([LR(k + 1)] * 2)
    assert counter.frame_count <= 2  # torch itself compiles anew for the state that was loaded
    assert saved["param_groups"][0]["lr"].item() == pytest.approx(0.1)


def test_a_captured_step(monkeypatch):
    """Replays of a captured step run no hook: it is refused; with `manual=True` nothing is written into the capture."""
    parameters = [parameter(), parameter()]
    counted, manual = (torch.optim.SGD([p], lr=torch.tensor(0.1)) for p in parameters)
    ms.drive(counted, lr=LR)
    driver = ms.drive(manual, lr=LR, manual=True)
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)  # as far as the hooks can see
    for optimizer in (counted, manual):
        optimizer.add_param_group({"params": [parameter()], "lr": torch.tensor(0.1)})
    driver.step()
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(errors.OptimizerError, match="manual=True"):
        counted.step()
    manual.param_groups[0]["lr"].fill_(7.0)
    manual.step()
    assert rates(manual) == [7.0, pytest.approx(LR(1))]
