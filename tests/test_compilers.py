"""Rules inside compilers and transformations: the same numbers as eagerly, and gradients as the formulas have them."""

import copy
import pickle

import numpy as np
import pytest
from helpers import ulps
from helpers_compilers import CASES, DT, SCHEDULES, STEPS, UPDATES, VALUES, close, flat

import multisched as ms

cases = pytest.mark.parametrize("case", list(CASES.values()), ids=list(CASES))
schedules = pytest.mark.parametrize("lr", list(SCHEDULES.values()), ids=list(SCHEDULES))
KEPT = np.array([True, False, True, True, False, True])


def eager(case, values):
    """The states before each update and the outputs, one update at a time."""
    states, outputs = [case.init(values[0])], []
    for value in values:
        state, output = case.step(states[-1], value)
        states.append(state)
        outputs.append(output)
    return states, outputs


def over_gaps(weight):
    """The average at each value of `KEPT`: it has this weight for each unit of time since the one before it."""
    averages, gap = [], 0
    for value, kept in zip(VALUES.astype(np.float64), KEPT, strict=True):
        gap += 1
        if kept:
            old = averages[-1] if averages else value
            averages.append(old + (1 - (1 - weight) ** gap) * (value - old))
            gap = 0
    return averages


def equal(torch, first, second):
    """Whether two lists of tensors are the same, bit for bit."""
    return len(first) == len(second) and all(map(torch.equal, first, second))


def pickled(rule):
    """The rule, through a pickle."""
    return pickle.loads(pickle.dumps(rule))


# --- statistics in JAX -----------------------------------------------------------------------------------------------
@cases
def test_scan_is_the_loop(jax, case):
    """`jax.lax.scan(rule.step, state, values)` gives the averages and the last state of the eager loop."""
    values = jax.numpy.asarray(VALUES)
    states, outputs = eager(case, values)
    last, averages = case.compiled(lambda step: jax.lax.scan(step, states[0], values))
    assert close(averages, np.stack(outputs))
    assert jax.tree.structure(last) == jax.tree.structure(states[-1])
    for actual, expected in zip(flat(last), flat(states[-1]), strict=True):
        assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
        assert close(actual, expected)


@cases
def test_jit_is_eager(jax, case):
    """From each state of the eager run, the jitted update gives what the eager one gives."""
    values = jax.numpy.asarray(VALUES)
    states, outputs = eager(case, values)
    step = case.compiled(jax.jit)
    for k, value in enumerate(values):
        state, output = step(states[k], value)
        assert close(output, outputs[k])
        assert all(map(close, flat(state), flat(states[k + 1])))


@cases
def test_vmap_is_one_at_a_time(jax, case):
    """`jax.vmap` over `init` and `step` gives each row what it gets alone, whatever the updates of its state."""
    rows = jax.numpy.stack([jax.numpy.asarray(VALUES), jax.numpy.asarray(VALUES[::-1].copy())])
    alone = [eager(case, row) for row in rows]
    state = jax.vmap(case.init)(rows[:, 0])
    for k in range(UPDATES):
        state, output = case.compiled(jax.vmap)(state, rows[:, k])
        assert close(output, np.stack([outputs[k] for _, outputs in alone]))
    for i, (states, _) in enumerate(alone):
        assert all(map(close, [part[i] for part in flat(state)], flat(states[-1])))


@cases
def test_vmap_of_masks(jax, case):
    """`where=` may differ from row to row of a `jax.vmap`: a masked row keeps its state, the others go on."""
    value, keep = jax.numpy.asarray(VALUES[:2]), jax.numpy.asarray([True, False])
    before = jax.vmap(case.init)(value)
    after, _ = jax.vmap(lambda state, x, where: case.rule.step(state, x, where=where))(before, value, keep)
    alone, _ = case.rule.step(case.init(value[0]), value[0])
    assert all(map(close, [part[0] for part in flat(after)], flat(alone)))
    assert all(bool((a[1] == b[1]).all()) for a, b in zip(flat(after), flat(before), strict=True))


@cases
def test_masks_in_a_scan(jax, case):
    """With `where=` traced in a scan, masked values that are NaN are as if they had never been; their time passes."""
    values = jax.numpy.asarray(np.where(KEPT[:, None], VALUES, np.nan))
    if case.dt is None:
        state, time, expected = case.init(values[0]), {}, eager(case, jax.numpy.asarray(VALUES[KEPT]))[1]
    else:
        state, time, expected = case.rule.init(values[0], times=True), {"dt": case.dt}, over_gaps(case.weight(1))

    def step(state, xs):
        return case.rule.step(state, xs[0], where=xs[1], **time)

    _, averages = jax.lax.scan(step, state, (values, jax.numpy.asarray(KEPT)))
    assert close(np.asarray(averages)[KEPT], np.stack(expected))


@pytest.mark.parametrize("transform", ["eager", "jit"])
@cases
def test_gradient_is_the_weight_of_the_latest_value(jax, case, transform):
    """`jax.grad` through the output, at each update but the first, is the weight that the formula gives the value."""
    values = jax.numpy.asarray(VALUES)
    states, _ = eager(case, values)
    gradient = jax.grad(lambda value, state: case.step(state, value)[1].sum())
    gradient = jax.jit(gradient) if transform == "jit" else gradient
    for n in range(1, UPDATES):
        expected = np.broadcast_to(np.float64(case.weight(n)), VALUES[n].shape)
        assert ulps(gradient(values[n], states[n]), expected, 1.0) <= 4


@cases
def test_no_gradient_through_the_state(jax, case):
    """The second output does not depend on the first value as far as `jax.grad` is concerned."""

    def second(first):
        state, _ = case.step(case.init(first), first)
        return case.step(state, jax.numpy.asarray(VALUES[1]))[1].sum()

    assert jax.grad(second)(jax.numpy.asarray(VALUES[0])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda rule: pickle.loads(pickle.dumps(rule))], ids=["deep", "pickle"]
)
@cases
def test_rules_are_static_arguments(jax, case, copied):
    """A rule is a static argument of `jax.jit`, and its copies, which are equal to it, are not traced again."""
    traces = []

    def step(rule, state, value):
        traces.append(rule)
        return rule.step(state, value)

    step = jax.jit(step, static_argnums=0)
    value = jax.numpy.asarray(VALUES[0])
    rules = [case.rule, copy.deepcopy(case.rule), pickled(case.rule)]
    averages = [step(rule, case.init(value), value)[1].tolist() for rule in rules]
    assert averages == [averages[0]] * 3
    assert len(traces) == 1
    step(ms.ema(0.125), ms.ema(0.125).init(value), value)
    assert len(traces) == 2


def test_traced_times(jax):
    """`dt=` traced in a scan is what a Python number is, eagerly."""
    rule, times = ms.ema(halflife=3.0, debias=True), [0.0, 0.5, 2.0, 0.25, 7.0, 1.0]
    values = jax.numpy.asarray(VALUES)
    state, outputs = rule.init(values[0]), []
    for value, dt in zip(values, times, strict=True):
        state, output = rule.step(state, value, dt=dt)
        outputs.append(output)
    last, averages = jax.lax.scan(
        lambda state, xs: rule.step(state, xs[0], dt=xs[1]), rule.init(values[0]), (values, jax.numpy.asarray(times))
    )
    assert close(averages, np.stack(outputs))
    assert close(last.mean, state.mean)


# --- schedules in JAX ------------------------------------------------------------------------------------------------
@schedules
def test_schedules_in_jax(jax, lr):
    """Jitted, mapped and scanned, a schedule gives what it gives eagerly, at each step."""
    steps = jax.numpy.asarray(STEPS)
    expected = np.stack([lr(step) for step in steps])
    assert ulps(jax.jit(lr)(steps), expected, 1.0) <= 4
    assert ulps(jax.vmap(lr)(steps), expected, 1.0) <= 4
    count, scanned = jax.lax.scan(lambda count, _: (count + 1, lr(count)), steps[0], None, length=len(STEPS))
    assert ulps(scanned, expected, 1.0) <= 4
    assert int(count) == len(STEPS)


@schedules
def test_schedules_are_static_arguments(jax, lr):
    """A schedule is a static argument of `jax.jit`, and a copy of it, which is equal to it, is not traced again."""
    traces = []

    def value(lr, step):
        traces.append(lr)
        return lr(step)

    value = jax.jit(value, static_argnums=0)
    values = [value(schedule, 3).tolist() for schedule in (lr, copy.deepcopy(lr), pickled(lr))]
    assert values == [values[0]] * 3
    assert len(traces) == 1


# --- statistics in torch ---------------------------------------------------------------------------------------------
@cases
def test_torch_vmap_is_one_at_a_time(torch, case):
    """`torch.func.vmap` over `init` and `step` gives each row what it gets alone."""
    rows = torch.stack([torch.tensor(VALUES), torch.tensor(VALUES[::-1].copy())])
    alone = [eager(case, row) for row in rows]
    state = torch.func.vmap(case.init)(rows[:, 0])
    for k in range(UPDATES):
        state, output = case.compiled(torch.func.vmap)(state, rows[:, k])
        assert torch.equal(output, torch.stack([outputs[k] for _, outputs in alone]))
    for i, (states, _) in enumerate(alone):
        assert equal(torch, [part[i] for part in flat(state)], flat(states[-1]))


@cases
def test_torch_vmap_of_masks(torch, case):
    """`where=` may differ from row to row of a `torch.func.vmap`."""
    value, keep = torch.tensor(VALUES[:2]), torch.tensor([True, False])
    before = torch.func.vmap(case.init)(value)
    after, _ = torch.func.vmap(lambda state, x, where: case.rule.step(state, x, where=where))(before, value, keep)
    alone, _ = case.rule.step(case.init(value[0]), value[0])
    assert equal(torch, [part[0] for part in flat(after)], flat(alone))
    assert equal(torch, [part[1] for part in flat(after)], [part[1] for part in flat(before)])


@pytest.mark.parametrize("way", ["func.grad", "backward", "compiled backward"])
@cases
def test_torch_gradient_is_the_weight_of_the_latest_value(torch, case, way):
    """The gradient of the output, at each update but the first, is the weight that the formula gives the value."""
    values = torch.tensor(VALUES)
    states, _ = eager(case, values)
    step = torch.compile(case.step, fullgraph=True, backend="eager") if way == "compiled backward" else case.step
    for n in range(1, UPDATES):
        if way == "func.grad":
            gradient = torch.func.grad(lambda value, state: step(state, value)[1].sum())(values[n], states[n])
        else:
            value = values[n].clone().requires_grad_()
            state, output = step(states[n], value)
            assert not any(part.requires_grad for part in flat(state))
            output.sum().backward()
            gradient = value.grad
        expected = np.broadcast_to(np.float64(case.weight(n)), VALUES[n].shape)
        assert ulps(gradient, expected, 1.0) <= 4


@cases
def test_torch_compile_is_the_loop(torch, case):
    """`torch.compile(rule.step, fullgraph=True)` gives the averages and states of the eager loop, bit for bit."""
    values = torch.tensor(VALUES)
    states, outputs = eager(case, values)
    step = case.compiled(lambda step: torch.compile(step, fullgraph=True, backend="eager"))
    state = states[0]
    for k, value in enumerate(values):
        state, output = step(state, value)
        assert type(state) is type(states[0])
        assert torch.equal(output, outputs[k])
        assert equal(torch, flat(state), flat(states[k + 1]))


@cases
def test_torch_compile_of_the_first_state(torch, case):
    """`init` inside the compiled function is the eager one."""

    @torch.compile(fullgraph=True, backend="eager")
    def first(value):
        return case.step(case.init(value), value)

    state, output = first(torch.tensor(VALUES[0]))
    expected_state, expected = case.step(case.init(torch.tensor(VALUES[0])), torch.tensor(VALUES[0]))
    assert torch.equal(output, expected)
    assert equal(torch, flat(state), flat(expected_state))


@cases
def test_torch_compile_of_vmap_of_grad(torch, case):
    """Compiled, mapped and differentiated at once, the gradient is the weight of the latest value in each row."""
    rows = torch.tensor(VALUES[:3])
    states = torch.func.vmap(case.init)(rows)
    states, _ = torch.func.vmap(case.step)(states, rows)
    gradient = torch.func.vmap(torch.func.grad(lambda value, state: case.step(state, value)[1].sum()))
    found = torch.compile(gradient, fullgraph=True, backend="eager")(rows, states)
    expected = np.broadcast_to(np.float64(case.weight(1)), VALUES[:3].shape)
    assert ulps(found, expected, 1.0) <= 4


def test_torch_compiled_times(torch):
    """`dt=` as a tensor in a compiled step is what it is eagerly, bit for bit."""
    rule = ms.ema(halflife=3.0, debias=True)
    step = torch.compile(rule.step, fullgraph=True, backend="eager")
    state = expected = rule.init(torch.tensor(VALUES[0]))
    for value, scale in zip(torch.tensor(VALUES), (0, 1, 4, 0.5, 14, 2), strict=True):
        state, output = step(state, value, dt=torch.tensor(scale * DT))
        expected, average = rule.step(expected, value, dt=torch.tensor(scale * DT))
        assert torch.equal(output, average)
        assert equal(torch, flat(state), flat(expected))


@schedules
def test_schedules_in_torch(torch, lr):
    """Compiled and mapped, a schedule gives what it gives eagerly, at each step."""
    steps = torch.tensor(STEPS)
    expected = torch.stack([lr(step) for step in steps])
    assert torch.equal(torch.func.vmap(lr)(steps), expected)
    compiled = torch.compile(lr, fullgraph=True, backend="eager")
    assert torch.equal(torch.stack([compiled(step) for step in steps]), expected)
