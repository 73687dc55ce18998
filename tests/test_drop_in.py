"""Schedules and rules in other libraries, as they are: each uses `lr(k)` at its update k, counted from 0."""

import importlib.util
import io
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers import EmaReference, ulps

import multisched as ms

UPDATES = 8
LR = 0.5 * ms.piecewise_constant(0.25, {2: 1.0, 5: 0.5}) + 0.125
RATES = [0.25, 0.25, 0.625, 0.625, 0.625, 0.375, 0.375, 0.375]
DECAY = 0.75


def descent(slopes, rates=RATES, start=0.0):
    """The weight after each step of gradient descent, in double precision."""
    return start - np.cumsum(np.asarray(rates, np.float64) * np.asarray(slopes, np.float64))


def quadratic(target, rates=RATES):
    """The weights after each step on (w - target)^2 / 2 from 0, and their moving average, in double precision."""
    weight, weights = 0.0, []
    average = EmaReference(DECAY)
    for rate in rates:
        weight -= rate * (weight - target)
        weights.append(weight)
    return np.array(weights), np.array([average.step(w) for w in weights])


def test_the_rates_are_those_of_the_schedule():
    """What the other tests compare with is the formula, worked out by hand."""
    assert [LR(k) for k in range(UPDATES)] == RATES


# --- optax -----------------------------------------------------------------------------------------------------------
def optax_trajectory(optimizer, slopes):
    jax = pytest.importorskip("jax", reason="optax needs jax, which is not installed")
    optax = pytest.importorskip("optax", reason="the test is about optax, which is not installed")

    traces = []

    @jax.jit
    def update(weight, state, slope):
        traces.append(state)
        updates, state = optimizer.update(slope, state, weight)
        return optax.apply_updates(weight, updates), state

    weight, weights = jax.numpy.zeros(()), []
    state = optimizer.init(weight)
    for slope in slopes:
        weight, state = update(weight, state, jax.numpy.asarray(slope, "float32"))
        weights.append(weight)
    assert len(traces) == 1
    return np.array(weights), state


SLOPES = [1.0, -2.0, 4.0, 0.5, 1.0, -1.0, 8.0, 2.0]  # with RATES, every product and sum is exact in float32


def test_optax_sgd():
    """`optax.sgd(learning_rate=lr)`, jitted, is traced once and takes the rate lr(k) at update k."""
    optax = pytest.importorskip("optax", reason="the test is about optax, which is not installed")
    weights, _ = optax_trajectory(optax.sgd(learning_rate=LR), SLOPES)
    assert weights.tolist() == descent(SLOPES).tolist()


def test_optax_inject_hyperparams():
    """`optax.inject_hyperparams(optax.sgd)(learning_rate=lr)` does too, and its state shows the rate last used."""
    optax = pytest.importorskip("optax", reason="the test is about optax, which is not installed")
    weights, state = optax_trajectory(optax.inject_hyperparams(optax.sgd)(learning_rate=LR), SLOPES)
    assert weights.tolist() == descent(SLOPES).tolist()
    assert float(state.hyperparams["learning_rate"]) == RATES[-1]


# --- torch -----------------------------------------------------------------------------------------------------------
def lambda_lr(torch, weight=0.0, base=2.0):
    weight = torch.nn.Parameter(torch.tensor(weight))
    optimizer = torch.optim.SGD([weight], lr=base)
    return weight, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, LR)


def torch_steps(torch, weight, optimizer, scheduler, slopes):
    weights = []
    for slope in slopes:
        weight.grad = torch.tensor(slope)
        optimizer.step()
        scheduler.step()
        weights.append(weight.item())
    return weights


def test_lambda_lr(torch):
    """`LambdaLR(optimizer, lr)` gives the optimizer the base rate times lr(k) at update k."""
    weights = torch_steps(torch, *lambda_lr(torch), SLOPES)
    assert weights == descent(SLOPES, 2 * np.array(RATES)).tolist()


@pytest.mark.parametrize("at", [0, 3, 7])
def test_lambda_lr_resumes(torch, at):
    """The state of the scheduler loads with `weights_only=True` into a new one, which goes on at the same update."""
    weight, optimizer, scheduler = lambda_lr(torch)
    before = torch_steps(torch, weight, optimizer, scheduler, SLOPES[:at])
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    fresh = lambda_lr(torch, weight.item(), base=123.0)
    fresh[1].load_state_dict(saved["optimizer"])
    fresh[2].load_state_dict(saved["scheduler"])
    assert fresh[2].get_last_lr() == [2 * LR(at)]
    after = torch_steps(torch, *fresh, SLOPES[at:])
    assert before + after == descent(SLOPES, 2 * np.array(RATES)).tolist()


# --- Keras -----------------------------------------------------------------------------------------------------------
KERAS = """
import keras
import multisched as ms
from multisched.integrations.keras import as_keras

assert keras.backend.backend() == {backend!r}
lr = as_keras({lr!r})
assert isinstance(lr, keras.optimizers.schedules.LearningRateSchedule)
assert type(lr) is type(as_keras(ms.constant(1.0)))
assert lr.get_config() == {{"schedule": {text!r}}}, lr.get_config()

def shown(array):
    return [float(x) for x in keras.ops.reshape(keras.ops.stop_gradient(array), (-1,))]

# applied by hand
weight = keras.Variable([0.0])
optimizer = keras.optimizers.SGD(learning_rate=lr)
optimizer.build([weight])
weights = []
for slope in {slopes}:
    optimizer.apply([keras.ops.convert_to_tensor([slope], dtype="float32")], [weight])
    weights += shown(weight.value)
assert weights == {expected}, weights

# in a compiled training step: the gradient of the mean output is the input
model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
model.compile(optimizer=keras.optimizers.SGD(learning_rate=lr), loss=lambda y, output: keras.ops.mean(output))
weights = []
for slope in {slopes}:
    x = keras.ops.convert_to_tensor([[slope]], dtype="float32")
    model.train_on_batch(x, x)
    weights += shown(model.weights[0].value)
assert weights == {expected}, weights
"""


@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_keras(framework):
    """A Keras optimizer with `as_keras(lr)`, by hand and in `train_on_batch`, takes the rate lr(k) at update k.

    In a process of its own, since Keras has one backend for each. Warnings are errors from the first line on.
    """
    if importlib.util.find_spec("keras") is None:  # to import it here would choose its backend
        pytest.skip("the test is about keras, which is not installed")
    pytest.importorskip(framework, reason=f"Keras is to run on {framework}, which is not installed")
    expected = descent(SLOPES).tolist()
    text = repr(LR)
    code = KERAS.format(backend=framework, lr=_Expression(text), text=text, slopes=SLOPES, expected=expected)
    environment = {**os.environ, "KERAS_BACKEND": framework}
    code = "import warnings; warnings.simplefilter('error')\n" + code
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr


class _Expression(str):
    """The expression that builds a schedule, with the names where a user finds them."""

    __slots__ = ()

    def __repr__(self):
        return self.replace("piecewise_constant", "ms.piecewise_constant")


@pytest.mark.parametrize("wrong", [0.1, "linear(1.0, 0.0, 4)", ms.ema(0.9), ms.piecewise_constant([1.0, 2.0], {})])
def test_what_is_no_schedule_of_numbers_is_an_error(wrong):
    """`as_keras` takes schedules of numbers, and says what it was given instead, before Keras is imported."""
    from multisched.integrations.keras import as_keras

    with pytest.raises(ms.errors.NotARule, match="as_keras takes a schedule of numbers, got"):
        as_keras(wrong)


def test_the_integration_imports_nothing():
    """Importing the wrapper imports no Keras and none of its backends."""
    code = (
        "import sys, multisched.integrations.keras\n"
        "print(sorted({'keras', 'jax', 'torch', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- training steps of Flax and Equinox ------------------------------------------------------------------------------
def agrees(actual, expected):
    """Within 4 units in the last place for each update so far."""
    expected = np.asarray(expected)
    units = [ulps(np.float32(a), e, 2.0) for a, e in zip(actual, expected, strict=True)]
    return all(unit <= 4 * (k + 1) for k, unit in enumerate(units))


def test_flax_nnx():
    """A jitted nnx training step that carries a rule's state in its module takes lr(k) and averages the weights."""
    nnx = pytest.importorskip("flax.nnx", reason="the test is about flax, which is not installed")
    jnp = pytest.importorskip("jax.numpy", reason="flax needs jax, which is not installed")
    optax = pytest.importorskip("optax", reason="the optimizer of the test is optax's, which is not installed")
    rule = ms.ema(DECAY)

    class Model(nnx.Module):
        def __init__(self):
            self.weight = nnx.Param(jnp.zeros(()))
            self.average = nnx.Variable(rule.init(jnp.zeros(())))

    @nnx.jit
    def train(model, optimizer, target):
        gradient = nnx.grad(lambda model: (model.weight[...] - target) ** 2 / 2)(model)
        optimizer.update(model, gradient)
        state, average = rule.step(model.average.get_value(), model.weight[...])
        model.average.set_value(state)
        return average

    model = Model()
    optimizer = nnx.Optimizer(model, optax.sgd(LR), wrt=nnx.Param)
    weights, averages = [], []
    for _ in range(UPDATES):
        averages.append(float(train(model, optimizer, jnp.asarray(2.0))))
        weights.append(float(model.weight[...]))
    expected, average = quadratic(2.0)
    assert agrees(weights, expected)
    assert agrees(averages, average)


def test_flax_linen():
    """A jitted linen step whose `TrainState` carries a rule's state takes lr(k) and averages the parameters."""
    jax = pytest.importorskip("jax", reason="flax needs jax, which is not installed")
    linen = pytest.importorskip("flax.linen", reason="the test is about flax, which is not installed")
    optax = pytest.importorskip("optax", reason="the optimizer of the test is optax's, which is not installed")
    from flax.training.train_state import TrainState

    rule = ms.ema(DECAY)

    class Averaged(TrainState):
        average: ms.EmaState

    model = linen.Dense(1, use_bias=False, kernel_init=linen.initializers.zeros)
    ones = jax.numpy.ones((1, 1))
    params = model.init(jax.random.key(0), ones)
    first = rule.init(params["params"]["kernel"])
    state = Averaged.create(apply_fn=model.apply, params=params, tx=optax.sgd(LR), average=first)

    @jax.jit
    def train(state, target):
        gradient = jax.grad(lambda params: ((state.apply_fn(params, ones) - target) ** 2 / 2).sum())(state.params)
        state = state.apply_gradients(grads=gradient)
        average, output = rule.step(state.average, state.params["params"]["kernel"])
        return state.replace(average=average), output

    weights, averages = [], []
    for _ in range(UPDATES):
        state, output = train(state, jax.numpy.asarray(2.0))
        weights.append(state.params["params"]["kernel"].item())
        averages.append(output.item())
    expected, average = quadratic(2.0)
    assert agrees(weights, expected)
    assert agrees(averages, average)


def test_equinox():
    """An Equinox step, the rules being fields of a module and their state carried beside it, does the same."""
    jax = pytest.importorskip("jax", reason="equinox needs jax, which is not installed")
    eqx = pytest.importorskip("equinox", reason="the test is about equinox, which is not installed")

    class Training(eqx.Module):
        lr: ms.Schedule = eqx.field(static=True)
        rule: ms.Statistic = eqx.field(static=True)
        weight: jax.Array
        average: ms.EmaState
        count: jax.Array

    @eqx.filter_jit
    def train(training, target):
        gradient = eqx.filter_grad(lambda weight: (weight - target) ** 2 / 2)(training.weight)
        weight = training.weight - training.lr(training.count) * gradient
        state, average = training.rule.step(training.average, weight)
        return Training(training.lr, training.rule, weight, state, training.count + 1), average

    rule, zero = ms.ema(DECAY), jax.numpy.zeros(())
    training = Training(LR, rule, zero, rule.init(zero), jax.numpy.asarray(0))
    weights, averages = [], []
    for _ in range(UPDATES):
        training, output = train(training, jax.numpy.asarray(2.0))
        weights.append(training.weight.item())
        averages.append(output.item())
    expected, average = quadratic(2.0)
    assert agrees(weights, expected)
    assert agrees(averages, average)
