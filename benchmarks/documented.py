"""One call of each documented example's function, beside the same thing written by hand in that framework.

python benchmarks/documented.py [numpy] [jax] [torch]
"""

import sys
from collections.abc import Callable, Iterator

import numpy as np
from timing import Timed, compared

import multisched as ms

AIMS = {"numpy": 2.0, "jax": 1.2}
Row = tuple[str, str, Timed, Timed, float | None]


def declared(backend: str, value: object) -> tuple[Callable[[], object], Callable[[], object]]:
    with ms.Graph("benchmark"), ms.use_backend(backend):
        lr = ms.PiecewiseConstant(0.1, {4: 1, 8: 2})
        f = ms.function(outputs=lr, updates=ms.get_updates())
        x = ms.Placeholder((2,), "float32")
        average, _ = ms.ExponentialMovingAverage(x, 0.9)
        g = ms.function(x, outputs=average, updates=ms.get_updates(variables=average.variables))
        return f, lambda: g(value)


def numpy_by_hand(value: np.ndarray) -> tuple[Callable[[], object], Callable[[], object]]:
    step = np.zeros((), np.int32)
    mean, first = np.zeros(2, np.float32), np.array(True)
    low, middle, high = np.float32(0.1), np.float32(1), np.float32(2)

    def schedule() -> object:
        result = np.where(step >= 8, high, np.where(step >= 4, middle, low))
        step[...] += 1
        return result

    def average() -> object:
        new = np.where(first, value, mean + 0.1 * (value - mean))
        mean[...] = new
        first[...] = False
        return new

    return schedule, average


def jax_by_hand(value: object) -> tuple[Callable[[], object], Callable[[], object]]:
    import jax
    import jax.numpy as jnp

    def _schedule(step):  # type: ignore[no-untyped-def]
        return jnp.where(step >= 8, 2.0, jnp.where(step >= 4, 1.0, 0.1)), step + 1

    def _average(mean, first, x):  # type: ignore[no-untyped-def]
        new = jnp.where(first, x, mean + 0.1 * (x - mean))
        return new, new, jnp.zeros_like(first)

    schedule_jit = jax.jit(_schedule, donate_argnums=0)
    average_jit = jax.jit(_average, donate_argnums=(0, 1))
    state = {"step": jnp.asarray(0, jnp.int32), "mean": jnp.zeros(2), "first": jnp.asarray(True)}

    def schedule() -> object:
        result, state["step"] = schedule_jit(state["step"])
        return result

    def average() -> object:
        result, state["mean"], state["first"] = average_jit(state["mean"], state["first"], value)
        return result

    return schedule, average


def torch_by_hand(value: object) -> tuple[Callable[[], object], Callable[[], object]]:
    import torch

    step = torch.zeros((), dtype=torch.int32)
    mean, first = torch.zeros(2), torch.tensor(True)
    low = torch.tensor(0.1)

    def schedule() -> object:
        result = torch.where(step >= 8, 2.0, torch.where(step >= 4, 1.0, low))
        step.add_(1)
        return result

    def average() -> object:
        new = torch.where(first, value, torch.lerp(mean, value, 0.1))
        mean.copy_(new)
        first.fill_(False)
        return new

    return schedule, average


BY_HAND = {"numpy": numpy_by_hand, "jax": jax_by_hand, "torch": torch_by_hand}


def rows(backends: list[str]) -> Iterator[Row]:
    """(backend, example, ours, by hand, the ratio aimed at)."""
    for backend in backends:
        value = ms.get_backend(backend).asarray(np.array([0.5, 1.5]), "float32")
        ours, theirs = declared(backend, value), BY_HAND[backend](value)
        for i, example in enumerate(("PiecewiseConstant", "ExponentialMovingAverage")):
            found = compared({"ours": ours[i], "by hand": theirs[i]})
            yield backend, example, found["ours"], found["by hand"], AIMS.get(backend)


def report(backends: list[str]) -> str:
    lines = [
        "| backend | example | by hand, us | declared, us | ratio | quartiles | aim |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for backend, example, ours, theirs, aim in rows(backends):
        wanted = "" if aim is None else f"at most {aim}"
        times = f"{theirs.seconds * 1e6:.2f} | {ours.seconds * 1e6:.2f} | {theirs.ratio:.2f} | {theirs.quartiles()}"
        lines.append(f"| {backend} | {example} | {times} | {wanted} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(report(sys.argv[1:] or list(BY_HAND)))
