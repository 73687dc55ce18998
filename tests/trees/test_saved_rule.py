"""States say by which rule they were averaged, and are loaded into another one only where that is asked for."""

import numpy as np
import pytest
from helpers import make, to_numpy

import multisched as ms
from multisched import errors

RULES = [
    ms.ema(0.75),
    ms.ema(0.75, debias=True),
    ms.ema(0.9, decay_min=True),
    ms.ema(ms.linear(0.5, 0.9, 4)),
    ms.swa(),
    ms.power_ema(0.1),
    ms.paced(ms.ema(0.5, debias=True), start=1, every=2),
]


def averaged(backend, rule, updates=4):
    avg = ms.Average({"w": make([0.0, 0.0], backend)}, rule)
    for n in range(updates):
        avg.update({"w": make([n, n * n], backend)})
    return avg


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("by_file", [False, True])
def test_the_same_rule_goes_on(backend, rule, by_file, tmp_path):
    """A state of an equal rule loads; "theirs" makes the rule from its text, and goes on as the first would."""
    old = averaged(backend, rule)
    ms.save(tmp_path / "average", old)
    loads = [("same", rule), ("mine", rule), ("theirs", ms.ema(0.125))]
    others = [averaged(backend, mine, 1) for _, mine in loads]
    for other, (whose, _) in zip(others, loads, strict=True):
        if by_file:
            ms.load(tmp_path / "average", other, rule=whose)
        else:
            other.load_state_dict(old.state_dict(), rule=whose)
    old.update({"w": make([3.0, -1.0], backend)})
    for other in others:
        assert (other.rule, other.count) == (rule, 4)
        other.update({"w": make([3.0, -1.0], backend)})
        np.testing.assert_array_equal(to_numpy(other.value["w"], backend), to_numpy(old.value["w"], backend))


@pytest.mark.parametrize("by_file", [False, True])
def test_another_rule_is_refused(backend, by_file, tmp_path):
    """The error shows both rules and both ways out, and nothing has changed."""
    old, new = averaged(backend, ms.ema(0.75)), averaged(backend, ms.swa(), 2)
    ms.save(tmp_path / "average", old)
    before = to_numpy(new.value["w"], backend).tolist()
    with pytest.raises(errors.CheckpointMismatch, match=r'ema\(0\.75\).*swa\(\).*rule="mine".*rule="theirs"'):
        ms.load(tmp_path / "average", new) if by_file else new.load_state_dict(old.state_dict())
    assert (new.count, to_numpy(new.value["w"], backend).tolist(), new.rule) == (2, before, ms.swa())
    with pytest.raises(errors.AverageError, match='rule is "same"'):
        new.load_state_dict(old.state_dict(), rule="ours")


@pytest.mark.parametrize("mine", [r for r in RULES if "debias" in repr(r)], ids=repr)
def test_mine_has_the_weight_of_its_own(mine):
    """A rule that debiases goes on as one of that many updates, not as at its first."""
    old, own = averaged("numpy", ms.swa(), 30), averaged("numpy", mine, 30)
    new = averaged("numpy", mine, 1)
    new.load_state_dict(old.state_dict(), rule="mine")
    mean, value = old.value["w"], np.asarray([100.0, -100.0], np.float32)
    share, _ = mine.share(30, float(own.state_dict()["weight"]))
    new.update({"w": value})
    np.testing.assert_allclose(new.value["w"], mean + share * (value - mean), rtol=1e-6)


def test_a_state_without_a_rule():
    """One of 0.1 loads with a warning, or without where its rule is said to be mine; a file without one is refused."""
    old, new = averaged("numpy", ms.ema(0.75)), averaged("numpy", ms.ema(0.75), 1)
    state = {name: part for name, part in old.state_dict().items() if name != "rule"}
    with pytest.warns(UserWarning, match=r'says no rule.*rule="mine"'):
        new.load_state_dict(state)
    assert new.count == 4
    new.load_state_dict(state, rule="mine")
    with pytest.raises(errors.CheckpointMismatch, match=r'says no rule.*rule="mine"'):
        new.load_state_dict(state, rule="theirs")
    for wrong in (3, np.zeros(4), b"ema(0.5)", np.full(4, 255, np.uint8)):
        with pytest.raises(errors.CheckpointMismatch, match="rule is"):
            new.load_state_dict({**state, "rule": wrong})


def test_a_rule_that_no_text_makes(tmp_path):
    """A schedule from a function is carried as its text without addresses: equal for equal names, made from none."""
    schedule = ms.from_function(lambda step: 0.5) if hasattr(ms, "from_function") else ms.linear(0.5, 0.5, 1)
    old, new = (averaged("numpy", ms.ema(schedule)) for _ in range(2))
    new.load_state_dict(old.state_dict())
    other = averaged("numpy", ms.swa())
    if "<" in repr(schedule):
        with pytest.raises(errors.CheckpointMismatch, match=r'cannot be made from its text.*rule="mine"'):
            other.load_state_dict(old.state_dict(), rule="theirs")
