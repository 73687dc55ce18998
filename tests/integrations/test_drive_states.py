"""Drivers over time: their copies, clocks and states, and the metrics that feed them."""

import copy
import gc
import io
import json
import math
import pickle
import warnings
import weakref

import numpy as np
import pytest

import multisched as ms
from multisched import errors

torch = pytest.importorskip("torch", reason="drive is about torch's optimizers, and torch is not installed")

from helpers_drive import groups, parameter, rates, untouched  # noqa: E402  # it imports torch

LR = ms.linear(1.0, 0.0, 100)


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
