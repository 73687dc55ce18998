"""`drive` beside what else is on an optimizer: wrappers, other schedulers, trainers, loaded checkpoints."""

import copy
import pickle
import warnings
from collections import OrderedDict, defaultdict

import numpy as np
import pytest

import multisched as ms
from multisched import errors

torch = pytest.importorskip("torch", reason="drive is about torch's optimizers, and torch is not installed")

LR = ms.linear(1.0, 0.0, 100)
BEYOND = 10**400
"""An int that no float holds."""


def parameter():
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones_like(p)
    return p


def made(*rates):
    return torch.optim.SGD([{"params": [parameter()], "lr": rate} for rate in rates], lr=0.1, momentum=0.9)


def rates(optimizer):
    return [float(group["lr"]) for group in optimizer.param_groups]


# --- wrappers --------------------------------------------------------------------------------------------------------
class Lookahead(torch.optim.Optimizer):
    """Steps an optimizer inside, and leaves out the initialisation by which torch calls hooks, as timm's does."""

    def __init__(self, inside):
        self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks = OrderedDict(), OrderedDict()
        self._optimizer_load_state_dict_post_hooks = OrderedDict()
        self._inside = inside
        self.param_groups, self.defaults, self.state = inside.param_groups, inside.defaults, defaultdict(dict)

    def step(self, closure=None):
        return self._inside.step(closure)


def test_a_wrapper_that_calls_no_hooks():
    """It is refused, where no step would ever be noticed; the line that the error shows works."""
    optimizer = Lookahead(made(0.1))
    for call in (
        lambda: ms.drive(optimizer, lr=LR),
        lambda: ms.drive([made(0.1), optimizer], lr=LR),
        lambda: ms.Average([parameter()], ms.ema(0.9)).attach(optimizer),
    ):
        with pytest.raises(errors.OptimizerError, match=r"optimizer\._inside"):
            call()
    assert not optimizer._optimizer_step_pre_hooks
    assert rates(optimizer) == [0.1]
    driver = ms.drive(optimizer._inside, lr=LR)
    for k in range(3):
        assert rates(optimizer) == [LR(k)]
        optimizer.step()
    assert driver.count == 3


def test_a_class_given_later():
    """An optimizer whose class is changed calls the hooks of its first class, and is driven."""

    class Loud(torch.optim.SGD):
        def step(self, closure=None):
            return super().step(closure)

    optimizer = made(0.1)
    optimizer.__class__ = Loud
    driver = ms.drive(optimizer, lr=LR)
    optimizer.step()
    assert (driver.count, rates(optimizer)) == (1, [LR(1)])


# --- other schedulers ------------------------------------------------------------------------------------------------
def test_a_scheduler_of_torch_beside_a_driver():
    """What it sets of what is driven is overwritten, and said once; what is not driven it may set."""
    optimizer = made(0.1)
    driver = ms.drive(optimizer, lr=LR)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    optimizer.step()
    scheduler.step()
    with pytest.warns(UserWarning, match="sets lr"):
        optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for k in range(2, 5):
            assert (driver.count, rates(optimizer)) == (k, [LR(k)])
            scheduler.step()
            assert rates(optimizer) != [LR(k)]
            optimizer.step()
        other = made(0.1)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(other, 0.5)
        ms.drive(other, momentum=LR)
        for k in range(4):
            assert rates(other) == [0.1 * 0.5**k]
            other.step()
            scheduler.step()
    assert (driver.count, rates(optimizer)) == (5, [LR(5)])


# --- drivers that come in between ------------------------------------------------------------------------------------
@pytest.mark.parametrize("replace", [False, True])
def test_a_second_driver_in_the_middle_of_a_step(replace):
    """A step that began before a driver was there does not count for it, though another driver counts it."""
    optimizer, drivers = made(0.1), []
    first = ms.drive(optimizer, lr=LR)
    more = {"lr": LR} if replace else {"momentum": LR}
    optimizer.step(lambda: drivers.append(ms.drive(optimizer, replace=replace, **more)))
    assert (first.count, drivers[0].count) == (0 if replace else 1, 0)
    optimizer.step()
    assert (first.count, drivers[0].count) == (0 if replace else 2, 1)

    def fails():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(fails)
    third = ms.drive(optimizer, weight_decay=LR)  # after a step that never ended
    optimizer.step()
    assert (third.count, drivers[0].count) == (1, 2)


# --- checkpoints -----------------------------------------------------------------------------------------------------
def test_own_values_of_a_checkpoint():
    """A count that is loaded where `ms.relative` multiplies the rates of a checkpoint is a warning; others are none."""
    optimizer = made(0.1, 0.01)
    driver = ms.drive(optimizer, lr=ms.relative(LR))
    for _ in range(50):
        optimizer.step()
    states = optimizer.state_dict(), driver.state_dict()
    late = made(0.1, 0.01)
    late.load_state_dict(states[0])
    again = ms.drive(late, lr=ms.relative(LR))
    with pytest.warns(UserWarning, match="own values of lr"):
        again.load_state_dict(states[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for order in (0, 1):
            fresh = made(0.1, 0.01)
            again = ms.drive(fresh, lr=ms.relative(LR))
            loads = [lambda: fresh.load_state_dict(states[0]), lambda: again.load_state_dict(states[1])]  # noqa: B023
            for load in loads[::-1] if order else loads:
                load()
            assert rates(fresh) == [0.05, 0.005]
        again = ms.drive(optimizer, lr=ms.relative(LR), replace=True)  # own values of the first driver
        again.load_state_dict(states[1])
        assert rates(optimizer) == [0.05, 0.005]
        twin = copy.deepcopy(again)
        twin.load_state_dict(states[1])
        late = made(0.1, 0.1)
        late.load_state_dict(states[0])
        ms.drive(late, lr={0: LR}).load_state_dict(states[1])  # nothing is read


# --- metrics ---------------------------------------------------------------------------------------------------------
def test_a_fed_driver_is_of_the_class_that_trainers_look_for():
    """A driver with a plateau is torch's `ReduceLROnPlateau`, its copies too, and no other driver is."""
    kind = torch.optim.lr_scheduler.ReduceLROnPlateau
    driver = ms.drive(made(0.1), lr=LR)
    assert not isinstance(driver, kind)
    for given in ({"lr": ms.plateau(0.1)}, {"lr": {0: ms.relative(ms.plateau(1.0))}}, {"plateau": ms.plateau(1.0)}):
        optimizer = made(0.1)
        driver = ms.drive(optimizer, **{"lr": LR, **given})
        for each in (driver, copy.deepcopy(driver), pickle.loads(pickle.dumps(driver))):
            assert isinstance(each, kind)
            assert isinstance(each, torch.optim.lr_scheduler.LRScheduler)
            each.step(1.0)
            assert each.state_dict()["plateau"][0]["best"] == 1.0


def test_hugging_face_feeds_the_metric(tmp_path):
    """The Trainer gives the metric of each evaluation to the driver."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="Accelerate is not installed, which the Trainer needs")

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def forward(self, x, labels=None):
            return {"loss": 0 * self.layer(x).mean() + 1, "logits": x}

    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    driver = ms.drive(optimizer, lr=ms.plateau(0.1, factor=0.5, patience=0))
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append(rates(optimizer)[0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the Trainer's advice
        arguments = transformers.TrainingArguments(
            str(tmp_path),
            max_steps=6,
            per_device_train_batch_size=1,
            eval_strategy="steps",
            eval_steps=2,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            metric_for_best_model="loss",
        )
        data = [{"x": torch.ones(2), "labels": torch.ones(1)}] * 8
        transformers.Trainer(
            model, arguments, train_dataset=data, eval_dataset=data[:2], optimizers=(optimizer, driver)
        ).train()
    assert seen == [0.1, 0.1, 0.1, 0.1, 0.05, 0.05]


# --- numbers that no float holds -------------------------------------------------------------------------------------
def test_numbers_beyond_double_precision():
    """They are refused like other bad input, and change nothing."""
    optimizer = made(0.1)
    fed = ms.drive(optimizer, lr=ms.plateau(0.1))
    manual = ms.drive(optimizer, momentum=LR, manual=True)
    states = fed.state_dict(), manual.state_dict()
    part = states[0]["plateau"][0]
    for call in (
        lambda: fed.report(BEYOND),
        lambda: fed.load_state_dict({**states[0], "count": BEYOND}),
        lambda: fed.load_state_dict({**states[0], "plateau": [{**part, "value": BEYOND}]}),
        lambda: fed.load_state_dict({**states[0], "plateau": [{**part, "value": np.ones(2)}]}),
        lambda: fed.load_state_dict({**states[0], "plateau": [{**part, "bad": 2**31}]}),
        lambda: fed.load_state_dict({**states[0], "plateau": [{**part, "rest": -1}]}),
        lambda: manual.step(at=BEYOND),
        lambda: manual.load_state_dict({"count": BEYOND}),
    ):
        with pytest.raises(errors.OptimizerError):
            call()
        assert (fed.state_dict(), manual.state_dict()) == states
    for given in ({"factor": BEYOND}, {"threshold": BEYOND}, {"eps": BEYOND}, {"minimum": BEYOND}, {"init": BEYOND}):
        with pytest.raises(errors.RuleError):
            ms.plateau(**{"init": 0.1, **given})
