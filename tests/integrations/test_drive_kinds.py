"""`drive` where it meets what people do with optimizers: copies, wrappers, failures, and input that is unclear."""

import contextlib
import copy
import gc
import io
import json
import math
import pickle
import re
import warnings
import weakref

import numpy as np
import pytest

import multisched as ms
from multisched import errors

torch = pytest.importorskip("torch", reason="drive is about torch's optimizers, and torch is not installed")

LR = ms.linear(1.0, 0.0, 100)


def parameter():
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones_like(p)
    return p


def groups(*rates, **more):
    return [{"params": [parameter()], "lr": rate, **more} for rate in rates]


def rates(optimizer):
    return [float(group["lr"]) for group in optimizer.param_groups]


def untouched(optimizer):
    """Whether nothing of a driver is on the optimizer."""
    hooks = (
        optimizer._optimizer_step_pre_hooks,
        optimizer._optimizer_step_post_hooks,
        optimizer._optimizer_load_state_dict_post_hooks,
    )
    return not any(hooks) and "add_param_group" not in optimizer.__dict__


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


# --- copies ----------------------------------------------------------------------------------------------------------
def test_copies_of_drivers():
    """A copy goes on from the count with an optimizer of its own, the original with the other; two drivers at once."""
    optimizer = torch.optim.SGD(groups(0.1, 0.2), lr=torch.tensor(0.1), momentum=0.9)
    first = ms.drive(optimizer, lr=ms.relative(LR))
    second = ms.drive(optimizer, momentum=ms.linear(0.9, 0.0, 9))
    optimizer.step()
    other, one, two = copy.deepcopy((optimizer, first, second))
    assert one.optimizer is two.optimizer is other is not optimizer
    optimizer.step()
    optimizer.step()
    other.step()
    assert (first.count, second.count, one.count, two.count) == (3, 3, 2, 2)
    assert rates(other) == pytest.approx([0.1 * LR(2), 0.2 * LR(2)])
    assert other.param_groups[0]["momentum"] == ms.linear(0.9, 0.0, 9)(2)
    other.add_param_group(groups(0.3)[0])
    other.step()
    assert rates(other) == pytest.approx([r * LR(3) for r in (0.1, 0.2, 0.3)])
    with pytest.raises(errors.OptimizerError) as raised:
        ms.drive(other, lr=LR)
    assert raised.value.driver is one


def test_a_copy_alone_has_its_optimizer():
    """As torch's schedulers: the optimizer is copied along, and it is the copy that keeps it."""
    optimizer = torch.optim.SGD(groups(0.1), lr=0.1)
    driver = ms.drive(optimizer, lr=LR, plateau=ms.plateau(1.0, factor=0.5, patience=0))
    optimizer.step()
    driver.report(1.0)
    driver.report(2.0)
    for way in (copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d)), _saved_by_torch):
        twin = way(driver)
        twin.optimizer.param_groups[0]["params"][0].grad = torch.ones(3)
        twin.optimizer.step()
        assert (twin.count, twin.get_last_lr()) == (2, [LR(2) * 0.5])
        assert twin.state_dict()["plateau"] == driver.state_dict()["plateau"]
        twin.report(3.0)
        assert twin.get_last_lr() == [LR(2) * 0.25]
    assert (driver.count, driver.get_last_lr()) == (1, [LR(1) * 0.5])


def _saved_by_torch(driver):
    torch.save({"scheduler": driver}, buffer := io.BytesIO())
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)["scheduler"]


class CopiesAll(torch.optim.SGD):
    """An optimizer whose copies have its hooks."""

    def __getstate__(self):
        return self.__dict__


def test_copies_that_are_refused():
    """A shallow copy, and a copy of an optimizer whose class copies its hooks, are refused in words."""
    optimizer = CopiesAll([parameter()], lr=0.1)
    driver = ms.drive(optimizer, lr=LR)
    with pytest.raises(errors.OptimizerError, match="deepcopy"):
        copy.copy(driver)
    with pytest.raises(errors.OptimizerError, match="detach"):
        copy.deepcopy(optimizer)
    driver.detach()
    assert copy.deepcopy(optimizer).param_groups[0]["lr"] == 1.0


def test_an_optimizer_copied_alone():
    """It is an optimizer with the values of now, as with torch's schedulers, and does not touch the driver's count."""
    optimizer = torch.optim.SGD([parameter()], lr=0.1)
    driver = ms.drive(optimizer, lr=LR)
    optimizer.step()
    other = copy.deepcopy(optimizer)
    other.step()
    assert (driver.count, rates(other)) == (1, [LR(1)])
    assert untouched(other)


def test_lifetimes():
    """The optimizer keeps its driver, and is freed at once when it is dropped, whatever happens to the driver."""
    optimizer = torch.optim.SGD([parameter()], lr=0.1)
    ms.drive(optimizer, lr=LR)
    gc.collect()
    optimizer.step()
    assert rates(optimizer) == [LR(1)]
    driver = ms.drive(optimizer, lr=LR, replace=True)
    gone = weakref.ref(optimizer)
    gc.disable()
    try:
        del optimizer
        assert gone() is None  # there is no cycle
    finally:
        gc.enable()
    with pytest.raises(errors.OptimizerError, match="keep it in a variable"):
        driver.optimizer  # noqa: B018
    assert (driver.state_dict(), driver.values()) == ({"count": 0}, {"lr": []})
    driver.load_state_dict({"count": 3})
    assert driver.count == 3


# --- clocks and states -----------------------------------------------------------------------------------------------
def test_a_clock_set_by_hand():
    """Tokens, samples or progress; several optimizers have one clock; the steps of the optimizer are not counted."""
    first, second = (torch.optim.SGD([parameter()], lr=0.1) for _ in range(2))
    driver = ms.drive([first, second], lr=ms.linear(1.0, 0.0, 1), manual=True)
    for progress in (0.0, 0.25, 0.5, np.float64(0.75)):
        driver.step(at=progress)
        assert driver.values() == {"lr": [1 - progress] * 2}
        first.step()
    assert driver.state_dict() == {"count": 0.75}
    with pytest.raises(errors.OptimizerError, match="at="):
        driver.step()
    driver.step(at=np.int64(0))
    driver.step()
    assert driver.state_dict() == {"count": 1}
    driver.load_state_dict(json.loads('{"count": 0.125}'))
    assert driver.get_last_lr() == [0.875] * 2


CLOCKS = [-1, -0.5, math.nan, math.inf, True, "3", None, 1j, torch.ones(2)]


@pytest.mark.parametrize("value", CLOCKS, ids=repr)
def test_clocks_that_are_none(value):
    """A clock is a finite number from 0 on; anything else changes nothing."""
    optimizer = torch.optim.SGD([parameter()], lr=0.1)
    driver = ms.drive(optimizer, lr=LR, manual=True)
    if value is not None:
        with pytest.raises(errors.OptimizerError):
            driver.step(at=value)
    with pytest.raises(errors.OptimizerError):
        driver.load_state_dict({"count": value})
    assert (driver.count, rates(optimizer)) == (0, [1.0])


STATES = [None, 3, [], {}, {"n": 1}, {"count": 1, "plateau": []}, *({"count": c} for c in [*CLOCKS, 0.5, [1], [1, 2]])]


@pytest.mark.parametrize("state", STATES, ids=repr)
def test_states_that_are_none(state):
    """The state of another kind of driver, or none, changes nothing."""
    optimizer = torch.optim.SGD([parameter()], lr=0.1)
    driver = ms.drive(optimizer, lr=LR)
    with pytest.raises(errors.OptimizerError):
        driver.load_state_dict(state)
    assert (driver.count, rates(optimizer)) == (0, [1.0])
    with pytest.raises(errors.OptimizerError):
        driver.step(at=3)
    with pytest.raises(errors.OptimizerError, match=r"ms\.plateau"):
        driver.step(3)
    with pytest.raises(errors.OptimizerError, match="metric"):
        driver.report(3.0)


def test_states_of_several():
    """A list of counts, one for each optimizer; NumPy's integers are integers."""
    optimizers = [torch.optim.SGD([parameter()], lr=0.1) for _ in range(2)]
    driver = ms.drive(tuple(optimizers), lr=LR)
    for bad in (3, [1], [1, 2, 3], [1, -2], [1, True], "12"):
        with pytest.raises(errors.OptimizerError):
            driver.load_state_dict({"count": bad})
    driver.load_state_dict({"count": (np.int64(3), 4)})
    assert json.dumps(driver.state_dict()) == '{"count": [3, 4]}'
    for wrong in ([], [optimizers[0], optimizers[0]], [optimizers[0], 1.0]):
        with pytest.raises(errors.OptimizerError):
            ms.drive(wrong, lr=LR)


def test_the_state_of_a_scheduler_of_torch():
    """It is refused, and the error says how to go on from it."""
    optimizer = torch.optim.SGD([parameter()], lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    for _ in range(5):
        optimizer.step()
        scheduler.step()
    driver = ms.drive(optimizer, lr=LR)
    with pytest.raises(errors.OptimizerError, match="last_epoch"):
        driver.load_state_dict(scheduler.state_dict())
    driver.load_state_dict({"count": scheduler.state_dict()["last_epoch"]})
    assert driver.get_last_lr() == [LR(5)]


def test_the_state_of_0_1():
    """0.1 wrote the count alone, and `initial_lr` into the groups of the optimizer."""
    old = torch.optim.SGD([parameter()], lr=0.1).state_dict()
    old["param_groups"][0].update(lr=0.03, initial_lr=0.1, initial_weight_decay=0.0)
    optimizer = torch.optim.SGD([parameter()], lr=0.1)
    driver = ms.drive(optimizer, lr=LR)
    optimizer.load_state_dict(old)
    driver.load_state_dict({"count": 7})
    optimizer.step()
    assert rates(optimizer) == [LR(8)]


# --- metrics ---------------------------------------------------------------------------------------------------------
LOSSES = [3.0, 2.0, 2.0, 2.0, 2.5, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5]


def test_plateau_alone():
    """The rate is that of torch's ReduceLROnPlateau after each metric, which counts from the next step on."""
    optimizer, other = (torch.optim.SGD([parameter()], lr=0.1) for _ in range(2))
    driver = ms.drive(optimizer, lr=ms.plateau(0.1, factor=0.5, patience=1))
    peer = torch.optim.lr_scheduler.ReduceLROnPlateau(other, factor=0.5, patience=1)
    for loss in LOSSES:
        optimizer.step()
        driver.report(torch.tensor(loss))
        peer.step(loss)
        assert rates(optimizer) == rates(other)
    assert rates(optimizer) == [0.1 / 16]


def test_plateau_times_a_schedule():
    """It multiplies `lr` alone, in every group, whatever else the group means."""
    optimizer = torch.optim.SGD(groups(0.1, 0.2), lr=0.1, weight_decay=0.5)
    rule = ms.plateau(1.0, factor=0.5, patience=1)
    driver = ms.drive(optimizer, lr=ms.relative(LR), weight_decay=LR, plateau=rule)
    state = rule.init(np.float64(0))
    for k, loss in enumerate(LOSSES):
        optimizer.step()
        driver.report(loss)
        state, factor = rule.step(state, np.float64(loss))
        assert rates(optimizer) == [own * (LR(k + 1) * float(factor)) for own in (0.1, 0.2)]
        assert [g["weight_decay"] for g in optimizer.param_groups] == [LR(k + 1)] * 2


def test_plateau_of_groups():
    """Groups may have rules of their own, each fed by the same metric; relative ones scale."""
    optimizer = torch.optim.SGD(groups(0.1, 0.2, 0.3), lr=0.1)
    quick, slow = (ms.plateau(1.0, factor=0.5, patience=patience) for patience in (0, 3))
    driver = ms.drive(optimizer, lr={0: ms.relative(quick), 2: slow})
    for _ in range(5):
        driver.report(1.0)
    assert rates(optimizer) == [0.1 / 16, 0.2, 0.5]


def test_states_of_plateau():
    """They pass through strict JSON, infinite metrics too, and go on to the bit; others are refused."""

    def made():
        optimizer = torch.optim.SGD([parameter()], lr=0.1)
        return optimizer, ms.drive(optimizer, lr=LR, plateau=ms.plateau(1.0, factor=0.3, patience=1))

    optimizer, driver = made()
    fresh = json.loads(json.dumps(driver.state_dict(), allow_nan=False))
    for loss in (math.inf, 3.0, math.nan, 3.0, math.inf):
        optimizer.step()
        driver.report(loss)
        state = json.loads(json.dumps(driver.state_dict(), allow_nan=False))
        other, again = made()
        again.load_state_dict(state)
        assert rates(other) == rates(optimizer)
        for d in (driver, again):
            assert d.state_dict() == state
    driver.load_state_dict(fresh)
    assert rates(optimizer) == [1.0]
    bad = [
        {"count": 1},
        {"count": 1, "plateau": []},
        {"count": 1, "plateau": [{}]},
        {"count": 1, "plateau": [{**fresh["plateau"][0], "bad": 0.5}]},
        {"count": 1, "plateau": [{**fresh["plateau"][0], "value": "much"}]},
    ]
    for state in bad:
        with pytest.raises(errors.OptimizerError):
            driver.load_state_dict(state)
    assert driver.state_dict() == fresh


@pytest.mark.parametrize("metric", [None, "1", True, 1j, [1.0], torch.ones(2), np.ones(2)], ids=repr)
def test_metrics_that_are_none(metric):
    """A metric is a real number; anything else changes nothing."""
    optimizer = torch.optim.SGD([parameter()], lr=0.1)
    driver = ms.drive(optimizer, lr=ms.plateau(0.1))
    before = driver.state_dict()
    with pytest.raises(errors.OptimizerError, match="metric"):
        driver.report(metric)
    assert driver.state_dict() == before


def test_lightning_feeds_the_metric(tmp_path):
    """Lightning's Trainer monitors a metric and gives it to the driver, as to torch's ReduceLROnPlateau."""
    lightning = pytest.importorskip("lightning", reason="Lightning is not installed")
    seen = []

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def training_step(self, batch, index):
            seen.append(self.optimizers().param_groups[0]["lr"])
            self.log("loss", torch.tensor(1.0))
            return self.layer(batch).square().mean()

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            driver = ms.drive(optimizer, lr=ms.plateau(0.1, factor=0.5, patience=0))
            scheduler = {"scheduler": driver, "interval": "epoch", "monitor": "loss", "reduce_on_plateau": True}
            return {"optimizer": optimizer, "lr_scheduler": scheduler}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice about workers and the like
        trainer = lightning.Trainer(
            max_epochs=4, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path
        )
        trainer.fit(Module(), torch.utils.data.DataLoader(torch.ones(2, 2), batch_size=2))
    assert seen == [0.1, 0.1, 0.05, 0.025]
