"""A script as a user writes it, which touches the whole public surface: it runs, and it type-checks."""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import multisched as ms


def rules() -> None:
    """Rules by themselves, on NumPy's arrays."""
    lr: ms.Schedule = ms.piecewise_constant(0.1, {4: 1, 8: 2})
    rate: float = lr(5)
    assert rate == 1.0
    assert (lr.name, lr.shape, repr(lr)) == ("piecewise_constant", (), "piecewise_constant(0.1, {4: 1, 8: 2})")
    average: ms.Statistic = ms.ema(lr, decay_min=True, debias=True)
    state: ms.EmaState = ms.ema(0.5).init(np.zeros(2))
    state, output = ms.ema(0.5).step(state, np.ones(2), where=True)
    window: ms.SmaState = ms.sma(3).init(np.zeros(2))
    window, mean = ms.sma(3).step(window, np.ones(2))
    equal: ms.SwaState = ms.swa().init(np.zeros(2))
    equal, same = ms.swa().step(equal, np.ones(2))
    assert output.tolist() == mean.tolist() == same.tolist() == [1.0, 1.0]
    assert isinstance(average, ms.Statistic)
    power: ms.PowerEmaState = ms.power_ema(0.1).init(np.zeros(2))
    power, widened = ms.power_ema(0.1).step(power, np.ones(2))
    late: ms.PacedState = ms.paced(ms.ema(ms.decay_warmup()), start=1, every=2).init(np.zeros(2))
    late, copied = ms.paced(ms.ema(ms.decay_warmup()), start=1, every=2).step(late, np.ones(2))
    assert widened.tolist() == copied.tolist() == [1.0, 1.0]
    bounded: ms.Schedule = ms.maximum(ms.minimum(lr, 1.5), 0.5)
    assert (bounded(0), bounded(9)) == (0.5, 1.5)


def another_width() -> None:
    """Averages of two widths, of which a third is made when all is over."""
    snapshots: list[ms.Snapshot] = []
    for rule in (ms.power_ema(0.05), ms.power_ema(0.1)):
        state = rule.init(np.zeros(2))
        for n in range(1, 11):
            state, value = rule.step(state, np.full(2, n))
            snapshots.append(ms.Snapshot({"w": value}, n, rule))
    combined = ms.posthoc(snapshots, 0.07)
    weights: list[float] = ms.posthoc_weights([0.05, 0.1], [10, 10], 0.07, count=10)
    assert combined["w"].shape == (2,)
    assert abs(sum(weights) - 1) < 1e-12


def catalogue() -> None:
    """Schedules of the catalogue, put together, and as data."""
    parts: list[ms.Schedule] = [
        ms.constant(0.1),
        ms.linear(0.0, 0.1, 10, begin=2),
        ms.polynomial(0.1, 0.0, 10, power=2),
        ms.exponential(0.1, 0.5, 10, staircase=True),
        ms.inverse_time(0.1, 0.5, 10),
        ms.inverse_sqrt(0.1, 10),
        ms.noam(512, 10),
        ms.cosine(0.1, 10),
        ms.cosine_restarts(0.1, 10, cycles=3),
        ms.tanh(0.1, 10),
        ms.one_cycle(0.1, 10),
        ms.cyclic(0.01, 0.1, 5),
        ms.warmup_stable_decay(0.1, 2, 5, 5, decay="1-sqrt"),
        ms.piecewise_scale(0.1, {5: 0.5}),
        ms.piecewise_interpolate({0: 0.1, 5: 0.2}),
    ]
    whole = ms.clip(ms.repeat(ms.stretch(ms.delay(ms.warmup(ms.join(parts[:2], [5]), 3), 1), 2.0), 20), 0.0, 0.2)
    assert ms.parse(repr(whole)) == ms.from_config(whole.to_config()) == whole
    assert ms.from_function(lambda step: 1 / (1 + step))(1) == 0.5
    rule = ms.plateau(0.1, patience=0)
    state: ms.PlateauState = rule.init(np.float32(0.0))
    state, _ = rule.step(state, np.float32(1.0))
    assert all(isinstance(part(3), float) for part in parts)


def driven(optimizer: Any) -> Any:
    """An optimizer of torch with the rates of a schedule."""
    return ms.drive(optimizer, lr=ms.relative(ms.cosine(1.0, 10)))


def own_schedule() -> None:
    """A schedule of the user's own, from its formula."""

    def check(slope: float) -> dict[str, Any]:
        return {"slope": slope}

    @ms.schedule(check)
    def line(xp: Any, step: Any, slope: float) -> Any:
        return step * slope

    rising: ms.Schedule = line(0.5)
    assert rising(4) == 2.0


def train(folder: Path) -> list[float]:
    """A least-squares fit whose rate, weights and averages are declared."""
    graph: ms.Graph = ms.current_graph()
    x: ms.Placeholder = ms.Placeholder((2,), "float32", name="x")
    with ms.Scope("model"):
        assert ms.current_scope() == "/model/"
        w: ms.Variable = ms.Variable([0.0, 0.0], name="w", dtype="float32")
    lr: ms.Declared = ms.PiecewiseConstant(0.5, {2: 0.25})
    average: ms.Declared
    average, fixed = ms.ExponentialMovingAverage(w, 0.5)
    recent, before = ms.SimpleMovingAverage(w, n=3)
    named: ms.Declared = ms.declare(ms.piecewise_constant(1.0, {}), name="constant", dtype="float32")
    uniform: ms.Declared
    uniform, _ = ms.declare(ms.swa(), w)
    error: ms.Tensor = w - x
    updates: dict[ms.Variable, ms.Tensor] = {w: w - lr * error, **ms.get_updates(scope="/*")}
    step: ms.Function = ms.function(x, outputs={"error": error, "rates": (lr, named)}, updates=updates)
    read: ms.Function = ms.function(outputs=[average, fixed, recent, before, uniform], jit=False)
    for _ in range(4):
        step([1.0, 2.0], device_get=True)
    state: Mapping[str, Any] = step.state
    outputs, state = step.pure(state, [1.0, 2.0])
    assert sorted(outputs) == ["error", "rates"]
    step.state = state
    path = folder / "state.safetensors"
    ms.save_variables(path)
    ms.reset_variables(name="w")
    ms.load_variables(path)
    listed: list[ms.Variable] = ms.get_variables(trainable=True)
    assert listed == [w]
    assert ms.get_placeholders("x") == [x]
    assert ms.get_ops("subtract") != []
    assert isinstance(lr.rule, ms.Schedule)
    assert (w.graph, w.path, lr.counter.name, lr.rule.name) == (graph, "/model/w", "step", "piecewise_constant")
    assert [float(a[0]) for a in read()] != []
    return [float(number) for number in w.value]


def by_hand() -> None:
    """A counter of the user's own, and a schedule that is advanced without a function."""
    with ms.Graph("by hand") as graph:
        total = ms.Variable(0, name="total", trainable=False)
        ms.add_updates({total: total + 2})
        count = ms.function(outputs=total, updates=ms.get_updates(variables=[total]))
        total.update(3)
        assert int(count()) == 3
        assert int(total.value) == 5
        total.reset()
        lr = ms.PiecewiseConstant(1, {1: 2})
        assert [float(lr.advance()), float(lr.value), float(lr.advance())] == [1.0, 2.0, 2.0]
        graph.reset()


def whole_model(folder: Path) -> None:
    """An average of a tree, its checkpoint, and a snapshot."""
    weights = {"w": np.zeros(2, np.float32), "steps": np.array(0)}
    avg = ms.Average(weights, ms.ema(0.5), select={"steps": "copy"})
    for _ in range(3):
        weights["w"] += 1
        avg.update()
    snapshot: ms.Snapshot = avg.snapshot()
    assert (avg.count, snapshot.count, snapshot.rule) == (3, 3, avg.rule)
    ms.save(folder / "average.safetensors", avg)
    other = ms.Average(weights, ms.ema(0.5), select={"steps": "copy"})
    ms.load(folder / "average.safetensors", other)
    with other.swapped() as held:
        assert held["w"].tolist() == [2.25, 2.25]
    assert weights["w"].tolist() == [3.0, 3.0]


def in_torch_and_optax(optimizer: Any, avg: ms.Average, opt_state: Any, params: Any) -> Any:
    """Never called, since it needs their objects: an average that follows an optimizer, and one within it."""
    handle: ms.Attachment = avg.attach(optimizer)
    handle.detach()
    transformation = ms.as_optax(ms.ema(0.999))
    return transformation, ms.average_of(ms.ema(0.999), opt_state, params)


def mistakes(x: ms.Placeholder, w: ms.Variable) -> None:
    """Never called: what a type checker must find. Under mypy --strict an ignore that is not needed is an error."""
    ms.sma("three")  # type: ignore[arg-type]
    ms.Variable(0.0, name=3)  # type: ignore[arg-type]
    ms.Variable(0.0, trainable="no")  # type: ignore[arg-type]
    ms.Placeholder()  # type: ignore[call-arg]
    ms.function(w)  # type: ignore[arg-type]
    ms.function(x, output=x)  # type: ignore[call-arg]
    ms.declare(ms.swa())  # type: ignore[call-overload]
    ms.declare(0.1)  # type: ignore[call-overload]
    ms.use_backend(3)  # type: ignore[arg-type]
    ms.get_variables(name=w)  # type: ignore[arg-type]
    ms.get_updates(variables=[x])  # type: ignore[list-item]
    ms.add_updates({x: x})  # type: ignore[dict-item]
    ms.Graph(3)  # type: ignore[arg-type]
    ms.save_variables(3)  # type: ignore[arg-type]
    ms.ema(0.9, decay=True)  # type: ignore[call-arg]
    ms.piecewise_constant(0.1)  # type: ignore[call-arg]
    ms.ExponentialMovingAverage(x, 0.9, debias=1.5)  # type: ignore[arg-type]
    ms.Average({}, 0.9)  # type: ignore[arg-type]
    w.updates({})  # type: ignore[attr-defined]


def main(backend: str) -> list[float]:
    """Everything, on one backend; returns the weights."""
    assert backend in [*ms.available_backends(), "array_api_strict"]
    with ms.use_backend(backend), ms.Graph("script"), tempfile.TemporaryDirectory() as folder:
        assert ms.get_backend().name == backend
        rules()
        another_width()
        catalogue()
        own_schedule()
        by_hand()
        whole_model(Path(folder))
        try:
            ms.Variable(0.0, dtype="float33")
        except ms.errors.DTypeError:
            print("no such dtype")
        return train(Path(folder))


if __name__ == "__main__":
    print(main(sys.argv[1] if len(sys.argv) > 1 else "numpy"))
