"""Decays that warm up, against the averages of models that people know: the same numbers, update by update.

Each test folds a rule over the weights of a small torch module that walks at random, once by its share, worked out on
the host as for a whole model, and once by `rule.step` in float32, and compares with the peer after every update.
"""

import math

import numpy as np
import pytest

import multisched as ms

torch = pytest.importorskip("torch", reason="the peers are of torch, which is not installed")
UPDATES = 60
UNIT = 2.0**-24


def walk(seed=0):
    """A module, and a function that moves its parameters by a random step."""
    generator = torch.Generator().manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Linear(4, 3))

    def move():
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)

    return model, move


def held(parameters):
    return [parameter.detach().clone() for parameter in parameters]


class Folded:
    """The averages of a list of tensors by the share of a rule, and by its step."""

    def __init__(self, rule, parameters):
        self.rule, self.count, self.weight = rule, 0, 0.0
        values = held(parameters)
        self.means = [torch.zeros_like(value) for value in values]
        self.states = [rule.init(value) for value in values]
        self.outputs = None

    def update(self, parameters):
        share, self.weight = self.rule.share(self.count, self.weight)
        self.count += 1
        values = held(parameters)
        self.means = [
            value if share == 1 else m + share * (value - m) for m, value in zip(self.means, values, strict=True)
        ]
        results = [self.rule.step(state, value) for state, value in zip(self.states, values, strict=True)]
        self.states, self.outputs = [state for state, _ in results], [output for _, output in results]

    def assert_is(self, peer):
        """All averages are the peer's, to what 60 updates of float32 may add up to at weights below 4."""
        for mean, output, other in zip(self.means, self.outputs, held(peer), strict=True):
            np.testing.assert_allclose(mean.numpy(), other.numpy(), rtol=0, atol=4 * UPDATES * UNIT)
            np.testing.assert_allclose(output.numpy(), other.numpy(), rtol=0, atol=4 * UPDATES * UNIT)


# --- torch -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("decay", [0.0, 0.9, 0.999])
@pytest.mark.parametrize("multi", [True, False])
def test_ema_is_that_of_averaged_model(decay, multi):
    """`AveragedModel` with an EMA, over lists or one tensor at a time, is `ema(decay)`: its first update copies."""
    utils = torch.optim.swa_utils
    options = {"multi_avg_fn": utils.get_ema_multi_avg_fn(decay)} if multi else {"avg_fn": utils.get_ema_avg_fn(decay)}
    model, move = walk()
    peer, ours = utils.AveragedModel(model, **options), Folded(ms.ema(decay), model.parameters())
    for _ in range(UPDATES):
        move()
        peer.update_parameters(model)
        ours.update(model.parameters())
        ours.assert_is(peer.parameters())


def test_swa_is_that_of_averaged_model():
    """`AveragedModel` as it is by default is `swa()`."""
    model, move = walk()
    peer, ours = torch.optim.swa_utils.AveragedModel(model), Folded(ms.swa(), model.parameters())
    for _ in range(UPDATES):
        move()
        peer.update_parameters(model)
        ours.update(model.parameters())
        ours.assert_is(peer.parameters())


def test_a_late_swa_is_that_of_averaged_model():
    """Training with `if epoch >= 20: swa_model.update_parameters(model)`, the model itself before, is a `start`."""
    model, move = walk()
    peer = torch.optim.swa_utils.AveragedModel(model)
    ours = Folded(ms.paced(ms.swa(), start=20), model.parameters())
    for epoch in range(UPDATES):
        move()
        if epoch >= 20:
            peer.update_parameters(model)
        ours.update(model.parameters())
        ours.assert_is(peer.parameters() if epoch >= 20 else model.parameters())


# --- ema-pytorch -----------------------------------------------------------------------------------------------------
EMA_PYTORCH = [
    {"beta": 0.9999, "update_after_step": 0, "update_every": 1},
    {"beta": 0.9, "update_after_step": 0, "update_every": 1, "power": 0.75},
    {"beta": 0.95, "update_after_step": 10, "update_every": 1, "inv_gamma": 3.0, "power": 1.0},
    {"beta": 0.9999, "update_after_step": 0, "update_every": 4},
    {"beta": 0.8, "update_after_step": 12, "update_every": 3, "inv_gamma": 2.0, "min_value": 0.5},
    {"beta": 0.9999, "update_after_step": 20, "update_every": 10},
]


@pytest.mark.parametrize("options", EMA_PYTORCH, ids=str)
def test_that_of_ema_pytorch(options):
    """`ema_pytorch.EMA` is a paced `ema(decay_warmup(...))`.

    Its decay goes by the calls since `update_after_step`, not by the updates: with `update_every` of k, the n-th update
    after the last copy has the decay of n * k, which is that of n with `inv_gamma / k`. It copies at the first call and
    at each k-th one up to `update_after_step`, here a multiple of k, at which our rule begins, with a copy. Between
    these it does not copy while ours does, so they are compared at each k-th call.
    """
    EMA = pytest.importorskip("ema_pytorch", reason="ema-pytorch is not installed").EMA  # noqa: N806
    every, start = options["update_every"], options["update_after_step"]
    alpha = ms.decay_warmup(
        inv_gamma=options.get("inv_gamma", 1.0) / every,
        power=options.get("power", 2 / 3),
        low=options.get("min_value", 0.0),
        high=options["beta"],
    )
    model, move = walk()
    peer = EMA(model, **options)
    ours = Folded(ms.paced(ms.ema(alpha), start=start, every=every), model.parameters())
    for call in range(UPDATES):
        move()
        peer.update()
        ours.update(model.parameters())
        if call % every == 0:
            ours.assert_is(peer.ema_model.parameters())


# --- diffusers -------------------------------------------------------------------------------------------------------
DIFFUSERS = [
    ({"decay": 0.9999, "use_ema_warmup": True}, ms.decay_warmup()),
    ({"decay": 0.9, "use_ema_warmup": True, "power": 0.75}, ms.decay_warmup(power=0.75, high=0.9)),
    (
        {"decay": 0.95, "min_decay": 0.6, "use_ema_warmup": True, "inv_gamma": 4, "update_after_step": 7},
        ms.decay_warmup(inv_gamma=4, low=0.6, high=0.95),
    ),
    ({"decay": 0.9999, "use_ema_warmup": False}, None),
    ({"decay": 0.75, "use_ema_warmup": False, "update_after_step": 11}, None),
]


@pytest.mark.parametrize(("options", "alpha"), DIFFUSERS, ids=str)
def test_that_of_diffusers(options, alpha):
    """`EMAModel` of diffusers is `ema(decay_warmup(...))`, or without its warm-up `ema(decay, decay_min=True)`.

    It counts its steps from 1, and takes off one and `update_after_step`: call c from 0 has the decay of
    c - `update_after_step`, and copies while that is not positive, so that our rule starts at `update_after_step`.
    """
    training_utils = pytest.importorskip("diffusers.training_utils", reason="diffusers is not installed")
    rule = ms.ema(options["decay"], decay_min=True) if alpha is None else ms.ema(alpha)
    rule = ms.paced(rule, start=options.get("update_after_step", 0))
    model, move = walk()
    peer, ours = training_utils.EMAModel(model.parameters(), **options), Folded(rule, model.parameters())
    for _ in range(UPDATES):
        move()
        peer.step(model.parameters())
        ours.update(model.parameters())
        ours.assert_is(peer.shadow_params)


# --- optax -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_debias_is_that_of_optax(decay):
    """`optax.ema(decay)` is `ema(decay, debias=True)`: both divide by the weight so far, `1 - decay ** (n + 1)`.

    Optax computes that in float32, with an error of a unit in 1, of which the quotient has `1 / (1 - decay)` times as
    much in its first updates.
    """
    optax = pytest.importorskip("optax", reason="optax is not installed")
    rng, peer = np.random.default_rng(0), optax.ema(decay)
    value, tree = rng.normal(size=(4, 3)), None
    ours = Folded(ms.ema(decay, debias=True), [torch.zeros(4, 3)])
    for _ in range(UPDATES):
        value = (value + 0.1 * rng.normal(size=(4, 3))).astype(np.float32)
        tree = peer.init({"w": value}) if tree is None else tree
        found, tree = peer.update({"w": value}, tree)
        ours.update([torch.from_numpy(value)])
        atol = 4 * UPDATES * UNIT + 4 * UNIT / (1 - decay)
        for mean in (ours.means[0], ours.outputs[0]):
            np.testing.assert_allclose(mean.numpy(), np.asarray(found["w"]), rtol=0, atol=atol)


# --- the schedule ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("power", "steps"), [(2 / 3, {0.999: 31_622, 0.9999: 10**6}), (3 / 4, {0.999: 10_000})])
def test_when_it_has_grown(power, steps):
    """It reaches the decays at the steps that its documentation says, to a part in a thousand of what is left."""
    alpha = ms.decay_warmup(power=power, high=1)
    for decay, step in steps.items():
        assert math.isclose(1 - alpha(step), 1 - decay, rel_tol=1e-3)


def test_with_powers_of_1_it_is_the_mean():
    """Under `inv_gamma` and `power` of 1 the share is that of `swa()`, as long as `high` leaves it."""
    rule = ms.ema(ms.decay_warmup(power=1, high=1))
    for count in (0, 1, 2, 10, 999, 10**6):
        assert math.isclose(rule.share(count, 0.0)[0], 1 / (count + 1), rel_tol=1e-9)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"inv_gamma": 0}, "inv_gamma must be a real number above 0"),
        ({"inv_gamma": "1"}, "inv_gamma must be a real number"),
        ({"power": -1}, "power must be a real number above 0"),
        ({"power": math.nan}, "power must be finite"),
        ({"low": -0.1}, "low must be a real number of at least 0"),
        ({"high": 1.5}, "low <= high <= 1, got 0 and 1.5"),
        ({"low": 0.9, "high": 0.5}, "low <= high <= 1, got 0.9 and 0.5"),
    ],
)
def test_a_warmup_that_is_none(options, words):
    """A scale or power that is not positive, and bounds that are no decays, are errors that say the argument."""
    with pytest.raises(ms.errors.ScheduleValueError, match=words):
        ms.decay_warmup(**options)
