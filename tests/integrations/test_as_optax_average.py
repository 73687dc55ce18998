"""`as_optax`: averages of parameters in the state of optax optimizers."""

import functools
import pickle

import numpy as np
import pytest

import multisched as ms
from multisched import errors
from multisched.integrations.optax import AverageState, average_of

jax = pytest.importorskip("jax", reason="optax needs jax, which is not installed")
optax = pytest.importorskip("optax", reason="the test is about optax, which is not installed")
jnp = jax.numpy

RULES = {
    "ema": ms.ema(0.75),
    "ema of a schedule": ms.ema(ms.linear(0.5, 0.9, 5), decay_min=True),
    "debiased": ms.ema(0.75, debias=True),
    "swa": ms.swa(),
    "sma": ms.sma(3),
    "paced": ms.paced(ms.power_ema(0.2), start=2),
}
STEPS = 5


def parameters():
    return {
        "w": jnp.asarray([1.0, -2.0]),
        "layers": [jnp.asarray(0.5, "float32"), {"b": jnp.ones((2, 1), jnp.complex64)}],
    }


def stepper(optimizer, jit=True):
    """One step of gradient descent on the sum of squares."""

    def step(params, state):
        grads = jax.tree.map(lambda p: 2 * p, params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return jax.jit(step) if jit else step


def run(step, params, state, steps=STEPS):
    """The parameters after each step, and the last state."""
    seen = []
    for _ in range(steps):
        params, state = step(params, state)
        seen.append(params)
    return seen, state


def train(optimizer, params, jit=True):
    return run(stepper(optimizer, jit), params, optimizer.init(params))


def averaged(rule, trees):
    """The average of each leaf, by the rule on NumPy's arrays in double precision."""

    def one(*values):
        values = [np.asarray(v, np.complex128 if np.iscomplexobj(v) else np.float64) for v in values]
        state = rule.init(values[0])
        for v in values:
            state, average = rule.step(state, v)
        return average

    return jax.tree.map(one, *trees)


def close(actual, expected, rtol=1e-6):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol), actual, expected)


@pytest.mark.parametrize("jit", [True, False], ids=["jit", "eager"])
@pytest.mark.parametrize("rule", [ms.ema(0.75), ms.sma(3)], ids=repr)
def test_the_average_is_that_of_the_parameters_after_each_update(rule, jit):
    """Of any statistic: the average found in a chain is that of params(1), ..., params(k), by the rule itself."""
    params = parameters()
    seen, state = train(optax.chain(optax.sgd(0.125), ms.as_optax(rule)), params, jit=jit)
    average = average_of(rule, state, seen[-1])
    close(average, averaged(rule, seen))
    assert jax.tree.map(lambda a: a.dtype, average) == jax.tree.map(lambda p: p.dtype, params)


def test_updates_pass_through():
    """The parameters are, to the bit, those without it."""
    with_it, _ = train(optax.chain(optax.adam(0.125), ms.as_optax(ms.ema(0.9))), parameters())
    without, _ = train(optax.adam(0.125), parameters())
    jax.tree.map(np.testing.assert_array_equal, with_it, without)


def test_the_peer():
    """On a stream of parameters it is what `optax.incremental_update` and the debiased `optax.ema` make of them."""
    decay = 0.75
    seen, state = train(optax.chain(optax.sgd(0.125), ms.as_optax(ms.ema(decay))), parameters())
    mean = seen[0]
    for params in seen[1:]:
        mean = optax.incremental_update(params, mean, 1 - decay)
    close(average_of(ms.ema(decay), state, seen[-1]), mean)

    rule = ms.ema(decay, debias=True)
    _, state = train(optax.chain(optax.sgd(0.125), ms.as_optax(rule)), parameters())
    peer = optax.ema(decay, debias=True)
    kept = peer.init(seen[0])
    for params in seen:
        mean, kept = peer.update(params, kept)
    close(average_of(rule, state, seen[-1]), mean)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_in_scan(rule):
    """Structure, shapes, dtypes and weak types of the state of every statistic are a fixed point: it scans."""
    optimizer = optax.chain(optax.sgd(0.125), ms.as_optax(rule))

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(params, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    params = parameters()
    (last, state), seen = jax.lax.scan(step, (params, optimizer.init(params)), length=STEPS)
    seen = [jax.tree.map(lambda leaf, k=k: leaf[k], seen) for k in range(STEPS)]
    close(average_of(rule, state, last), averaged(rule, seen))


@pytest.mark.parametrize("rule", [ms.ema(0.75), ms.swa(), ms.sma(3)], ids=repr)
def test_parameters_and_state_are_donated(rule):
    """With parameters and state donated, integer leaves among them, no buffer is given away twice."""
    params = {**parameters(), "steps": jnp.asarray([3, 4]), "flags": jnp.asarray([True])}
    frozen = {"steps", "flags"}
    mask = {name: jax.tree.map(lambda _, t=name not in frozen: t, leaf) for name, leaf in params.items()}
    optimizer = optax.chain(optax.masked(optax.sgd(0.125), mask), ms.as_optax(rule))

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state):
        updates = {
            name: jax.tree.map(jnp.zeros_like if name in frozen else jnp.ones_like, p) for name, p in params.items()
        }
        updates, state = optimizer.update(updates, state, params)
        return optax.apply_updates(params, updates), state

    overwritten = {"[1].states['flags']", "[1].states['steps']"}  # unread, hence not given to the program
    state, seen = optimizer.init(params), []
    for _ in range(STEPS):
        given = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}
        given |= {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(params))}
        params, state = step(params, state)
        assert {name for name, leaf in given.items() if not leaf.is_deleted()} == overwritten
        seen.append(jax.tree.map(np.array, params))
    average = average_of(rule, state, params)
    assert average["steps"].tolist() == [3, 4]
    assert average["flags"].tolist() == [True]
    floating = [{name: leaf for name, leaf in tree.items() if name not in frozen} for tree in seen]
    close({name: average[name] for name in floating[0]}, averaged(rule, floating))


def test_integers_are_copied():
    """An integer leaf is not averaged: it is the latest value, in its own dtype."""
    optimizer = ms.as_optax(ms.swa())
    params = {"w": jnp.zeros(1), "n": jnp.asarray(1)}
    state = optimizer.init(params)
    for _ in range(3):
        updates, state = optimizer.update({"w": jnp.ones(1), "n": jnp.asarray(5)}, state, params)
        params = optax.apply_updates(params, updates)
    average = average_of(ms.swa(), state, params)
    assert (average["n"].item(), average["n"].dtype) == (16, params["n"].dtype)
    assert average["w"].item() == 2.0


def test_half_precision_is_averaged_in_float32():
    """bfloat16 parameters have a float32 average in the state, which is given in bfloat16."""
    rule, params = ms.ema(0.999), {"w": jnp.ones(4, jnp.bfloat16)}
    optimizer = ms.as_optax(rule)
    state = optimizer.init(params)
    for k in range(50):
        _, state = optimizer.update({"w": jnp.full(4, min(k, 1), jnp.bfloat16)}, state, params)
    assert state.states["w"].mean.dtype == jnp.float32
    np.testing.assert_allclose(state.states["w"].mean, 2 - 0.999**49, rtol=1e-5)
    assert average_of(rule, state, params)["w"].dtype == jnp.bfloat16


def test_before_the_first_update():
    """Before any update the average is the parameters, or `init`; in memory of its own."""
    params = parameters()
    state = optax.chain(optax.sgd(0.1), ms.as_optax(ms.swa())).init(params)
    close(average_of(ms.swa(), state, params), params)
    rule = ms.ema(0.5, init=3.0)
    assert average_of(rule, ms.as_optax(rule).init({"w": jnp.zeros(2)}), {"w": jnp.zeros(2)})["w"].tolist() == [3, 3]


def test_updates_that_are_skipped_do_not_count():
    """Inside `apply_if_finite` a NaN gradient leaves the average; inside `MultiSteps` only every second call counts."""
    rule = ms.swa()
    chain = optax.chain(optax.sgd(1.0), ms.as_optax(rule))

    def last(optimizer, gradients):
        update, params = jax.jit(optimizer.update), {"w": jnp.zeros(())}
        state = optimizer.init(params)
        for gradient in gradients:
            updates, state = update({"w": jnp.asarray(gradient, "float32")}, state, params)
            params = optax.apply_updates(params, updates)
        return params["w"].item(), average_of(rule, state, params)["w"].item()

    assert last(optax.apply_if_finite(chain, 10), [-1.0, np.nan, -1.0]) == (2.0, 1.5)
    assert last(optax.MultiSteps(chain, 2), [-1.0] * 6) == (3.0, 2.0)


def test_missing_leaves_stay_missing():
    """Leaves that are None, as Equinox filters them, have no average."""
    rule, params = ms.swa(), {"w": jnp.ones(1), "activation": None}
    optimizer = optax.chain(optax.sgd(0.5), ms.as_optax(rule))
    _, state = optimizer.update({"w": jnp.ones(1), "activation": None}, optimizer.init(params), params)
    assert average_of(rule, state, params)["activation"] is None
    assert average_of(rule, state, params)["w"].tolist() == [0.5]


def test_resuming_is_exact():
    """A state that was stored as arrays of NumPy, pickled and read back goes on to the bit."""
    rule = ms.ema(ms.linear(0.5, 0.9, 5))
    optimizer = optax.chain(optax.sgd(0.125, momentum=0.5), ms.as_optax(rule))
    step, params = stepper(optimizer), parameters()
    unbroken, whole = run(step, params, optimizer.init(params))
    seen, state = run(step, params, optimizer.init(params), 2)
    params, state = pickle.loads(pickle.dumps(jax.tree.map(np.asarray, (seen[-1], state))))
    assert isinstance(state[-1], AverageState)
    resumed, state = run(step, params, state, STEPS - 2)
    expected = unbroken[-1], average_of(rule, whole, unbroken[-1])
    jax.tree.map(np.testing.assert_array_equal, (resumed[-1], average_of(rule, state, params)), expected)


def test_arrays_of_numpy_are_taken():
    """Eagerly, too, a state and parameters of NumPy, as a file gives them, are taken as they are."""
    rule, params = ms.swa(), {"w": np.ones(2, np.float32)}
    optimizer = ms.as_optax(rule)
    state = jax.tree.map(np.asarray, optimizer.init(params))
    _, state = optimizer.update(params, state, params)
    average = average_of(rule, jax.tree.map(np.asarray, state), params)
    assert average["w"].tolist() == [2.0, 2.0]


def test_two_averages_of_one_optimizer():
    """Of two averages in a chain, each is read from its own part of the state."""
    fast, slow = ms.ema(0.5), ms.ema(0.9)
    seen, state = train(optax.chain(optax.sgd(0.125), ms.as_optax(fast), ms.as_optax(slow)), parameters())
    close(average_of(fast, state[1], seen[-1]), averaged(fast, seen))
    close(average_of(slow, state[2], seen[-1]), averaged(slow, seen))
    with pytest.raises(errors.OptimizerError, match="2 of them"):
        average_of(fast, state, seen[-1])


def test_bad_input():
    """Each mistake raises its class and names what is wrong."""
    params = {"w": jnp.zeros(1)}
    optimizer = ms.as_optax(ms.ema(0.9))
    state = optimizer.init(params)
    for given in (0.9, ms.cosine(0.1, 10), None):
        with pytest.raises(errors.NotARule, match=r"as_optax takes a statistic"):
            ms.as_optax(given)
        with pytest.raises(errors.NotARule, match=r"average_of takes a statistic"):
            average_of(given, state, params)
    with pytest.raises(errors.OptimizerError, match="params"):
        optimizer.update(params, state)
    with pytest.raises(errors.OptimizerError, match="0 of them"):
        average_of(ms.ema(0.9), optax.adam(0.1).init(params), params)
    with pytest.raises(errors.OptimizerError, match=r"sma\(3\)"):
        average_of(ms.sma(3), state, params)
    with pytest.raises(errors.OptimizerError, match=r"ema\(0.9\)"):
        average_of(ms.ema(0.9), state, {"w": jnp.zeros(1), "b": jnp.zeros(1)})
