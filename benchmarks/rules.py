"""Rules beside the same formula by hand, and beside the schedules of other libraries.

python benchmarks/rules.py
"""

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from timing import Timed, compared

import multisched as ms

STEPS = 1000
Row = tuple[str, str, Timed, Timed, str]
"""The job, what it is compared with, ours, theirs, and the ratio aimed at."""


@ms.schedule(lambda init, steps: {"init": float(init), "steps": int(steps)})
def cosine(xp, step, init, steps):  # type: ignore[no-untyped-def]
    """From `init` to 0 along a half wave."""
    return init * 0.5 * (1 + xp.cos(math.pi * xp.minimum(step, steps) / steps))


def cosine_by_hand(step: int) -> float:
    return 0.1 * 0.5 * (1 + math.cos(math.pi * min(step, STEPS) / STEPS))


def constants_by_hand(step: int) -> float:
    return 0.1 if step < 4 else 1.0 if step < 8 else 2.0


def piecewise_by_hand(init: float, steps_and_values: dict[int, float]) -> Callable[[int], float]:
    pairs = sorted(steps_and_values.items())

    def lr(step: int) -> float:
        value = init
        for key, changed in pairs:
            if step >= key:
                value = changed
        return value

    return lr


def torch_scheduler(name: str) -> Callable[[], object]:
    import torch

    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    schedulers = torch.optim.lr_scheduler
    scheduler = (
        schedulers.MultiStepLR(optimizer, [4, 8])
        if name == "piecewise"
        else schedulers.CosineAnnealingLR(optimizer, STEPS)
    )
    optimizer.step()
    return scheduler.step


def numbers() -> Iterator[Row]:
    """`lr(k)` for a Python int."""
    import optax

    piecewise = ms.piecewise_constant(0.1, {4: 1, 8: 2})
    wave = cosine(0.1, STEPS)
    closure = piecewise_by_hand(0.1, {4: 1.0, 8: 2.0})
    jobs: dict[str, dict[str, tuple[Callable[[], object], str]]] = {
        "cosine": {
            "ours": (lambda: wave(500), ""),
            "the formula in Python": (lambda: cosine_by_hand(500), "at most 2"),
            "torch CosineAnnealingLR.step()": (torch_scheduler("cosine"), "at most 0.5"),
            "optax, called eagerly": (partial(optax.cosine_decay_schedule(0.1, STEPS), 500), "at most 0.005"),
        },
        "piecewise constant": {
            "ours": (lambda: piecewise(5), ""),
            "a loop over the steps in Python": (lambda: closure(5), "at most 2"),
            "the constants written into Python": (lambda: constants_by_hand(5), "at most 2"),
            "torch MultiStepLR.step()": (torch_scheduler("piecewise"), "at most 0.5"),
            "optax, called eagerly": (
                partial(optax.piecewise_constant_schedule(0.1, {4: 10.0, 8: 2.0}), 5),
                "at most 0.005",
            ),
        },
    }
    for job, contenders in jobs.items():
        found = compared({name: call for name, (call, _) in contenders.items()})
        for name, (_, aim) in contenders.items():
            if aim:
                yield f"`lr(k)`, {job}", name, found["ours"], found[name], aim


def arrays() -> Iterator[Row]:
    """Ten million steps at once."""
    steps = np.arange(10_000_000)
    piecewise, wave = ms.piecewise_constant(0.1, {4: 1, 8: 2}), cosine(0.1, STEPS)
    low, middle, high = map(np.float32, (0.1, 1, 2))
    contenders = {
        "piecewise constant": (
            lambda: piecewise(steps),
            lambda: np.where(steps >= 8, high, np.where(steps >= 4, middle, low)),
        ),
        "cosine": (
            lambda: wave(steps),
            lambda: 0.1 * 0.5 * (1 + np.cos(math.pi * np.minimum(steps, STEPS) / STEPS)),
        ),
    }
    for job, (ours, theirs) in contenders.items():
        found = compared({"ours": ours, "by hand": theirs}, rounds=7, budget=0.1, warm=2)
        yield f"ten million steps, {job}", "NumPy by hand", found["ours"], found["by hand"], "at most 1.25"


def large() -> Iterator[Row]:
    """16 Mi float32 in JAX, with donation."""
    import jax
    import jax.numpy as jnp

    value = jnp.ones(16 * 2**20, jnp.float32)
    rule = ms.ema(0.9)

    def update(state, x):  # type: ignore[no-untyped-def]
        mean, first = state
        new = jnp.where(first, x, mean + 0.1 * (x - mean))
        return (new, jnp.zeros_like(first)), new

    def update_alone(state, x):  # type: ignore[no-untyped-def]
        return update(state, x)[0]

    def loop(step: Callable[..., object], state: object) -> Callable[[], object]:
        held = {"state": state}

        def call() -> object:
            result = step(held["state"], value)
            held["state"] = result[0]  # type: ignore[index]
            return jax.block_until_ready(result)

        return call

    def fresh() -> tuple[object, object]:
        return jnp.zeros_like(value), jnp.asarray(True)

    with ms.Graph("benchmark"), ms.use_backend("jax"):
        x = ms.Placeholder(value.shape)
        average, _ = ms.declare(rule, x)
        with_output = ms.function(x, outputs=average, updates=ms.get_updates())
        without = ms.function(x, updates=ms.get_updates())
    by_hand = jax.jit(lambda s, x: (update_alone(s, x),), donate_argnums=0)

    def declared() -> None:
        without(value)
        jax.block_until_ready(average.variables[0].cell.array)

    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "`jax.jit(rule.step)`": (
            loop(jax.jit(rule.step, donate_argnums=0), rule.init(value)),
            loop(jax.jit(update, donate_argnums=0), fresh()),
        ),
        "declared, with its output": (
            lambda: jax.block_until_ready(with_output(value)),
            loop(jax.jit(update, donate_argnums=0), fresh()),
        ),
        "declared, updates alone": (declared, loop(by_hand, fresh())),
    }
    for job, (ours, theirs) in pairs.items():
        found = compared({"ours": ours, "by hand": theirs}, rounds=15, budget=0.1, warm=5)
        yield f"16 Mi float32, {job}", "`jax.jit` by hand", found["ours"], found["by hand"], "at most 1.05"


def scalars() -> Iterator[Row]:
    """Eager steps on a scalar: what calling costs."""
    import torch

    rule = ms.ema(0.9)
    value = np.asarray(1.5, np.float32)
    state, _ = rule.step(rule.init(value), value)
    tensor, old, first = torch.tensor(1.5), torch.tensor(1.0), torch.tensor(False)
    held, _ = rule.step(rule.init(tensor), tensor)

    def four_operations() -> object:
        return torch.where(first, tensor, old + (tensor - old) * 0.1)

    ours = compared({"ours": lambda: rule.step(state, value)})["ours"]
    ratio = ours.seconds / 15e-6
    yield "`rule.step` on a scalar, NumPy", "15 us", ours, Timed(15e-6, ratio, ratio, ratio), "at most 1"
    found = compared({"ours": lambda: rule.step(held, tensor), "four": four_operations})
    yield "`rule.step` on a scalar, torch", "four torch operations", found["ours"], found["four"], "at most 3"


def report() -> str:
    lines = ["| job | compared with | ours, us | theirs, us | ratio | quartiles | aim |", "| --- |" + " --- |" * 6]
    for part in (numbers, arrays, large, scalars):
        for job, other, ours, theirs, aim in part():
            times = f"{ours.seconds * 1e6:.4g} | {theirs.seconds * 1e6:.4g} | {theirs.ratio:.3g} | {theirs.quartiles()}"
            lines.append(f"| {job} | {other} | {times} | {aim} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(report())
