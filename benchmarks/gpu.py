"""The average of a model of a billion parameters on a GPU, beside a copy: the most that its memory can do.

python benchmarks/gpu.py

Without a GPU it says so and ends.
"""

from collections.abc import Callable, Iterator
from typing import Any

import models
from timing import compared

import multisched as ms

SHAPES = models.gpt2(layers=36, width=1408, positions=2048)
"""A GPT-2 of 0.93 billion numbers in 436 arrays."""
SMALL = [(256,)] * 2000
CALLS = 5
"""Calls that the host hands over before it waits, as in a training, where it is ahead of the device."""


def seconds(calls: dict[str, Callable[[], object]], wait: Callable[[], object]) -> dict[str, float]:
    """For one call of each, the median of rounds in which each makes several and then waits."""

    def several(call: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            for _ in range(CALLS):
                call()
            wait()

        return run

    taken = compared({name: several(call) for name, call in calls.items()}, rounds=30, budget=0, warm=3)
    return {name: timed.seconds / CALLS for name, timed in taken.items()}


# --- torch -----------------------------------------------------------------------------------------------------------
def on_torch() -> Iterator[str]:
    import torch

    print(f"\n{torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    print(HEADER)
    wait = torch.cuda.synchronize
    yield from _torch_rows(torch, wait, SHAPES, "1 B, float32", torch.float32, None)
    yield from _torch_rows(torch, wait, SHAPES, "1 B, bfloat16, average float32", torch.bfloat16, None)
    yield from _torch_rows(
        torch, wait, SHAPES, "1 B, bfloat16, average bfloat16, stochastic", torch.bfloat16, "stochastic"
    )
    yield from _torch_rows(torch, wait, SHAPES, "1 B, bfloat16, compensated", torch.bfloat16, "compensated")
    yield from _torch_rows(torch, wait, SMALL, "2,000 arrays of 256, float32", torch.float32, None)


def _torch_rows(torch: Any, wait: Any, shapes: Any, job: str, dtype: Any, rounding: str | None) -> Iterator[str]:
    tensors = [torch.randn(shape, device="cuda", dtype=torch.float32).to(dtype) for shape in shapes]
    module = torch.nn.ParameterList([torch.nn.Parameter(tensor) for tensor in tensors])
    options = {} if rounding is None else {"dtype": "bfloat16", "rounding": rounding}
    average = ms.Average(module, ms.ema(0.999), **options)
    average.update()
    held = {None: 4, "stochastic": 2, "compensated": 4}[rounding]
    moved = models.size(shapes) * (tensors[0].element_size() + 2 * held)
    source = torch.empty(moved // 8, dtype=torch.float32, device="cuda").uniform_()
    target = torch.empty_like(source)
    calls: dict[str, Callable[[], object]] = {"ours": average.update, "copy": lambda: target.copy_(source)}
    if dtype == torch.float32:
        others = [torch.zeros_like(tensor) for tensor in tensors]
        calls["_foreach_lerp_"] = lambda: torch._foreach_lerp_(others, tensors, 1e-3)
    base = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    taken = seconds(calls, wait)
    peak = torch.cuda.max_memory_allocated() - base
    state = models.size(shapes) * held
    yield _row("torch", job, taken, moved, launches(torch, average.update), f"{100 * peak / state:.1f} %")


def launches(torch: Any, call: Callable[[], object]) -> int:
    """How many kernels and copies one call starts on the device."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        call()
        torch.cuda.synchronize()
    return sum(event.device_type == torch.autograd.DeviceType.CUDA for event in profile.events())


# --- JAX -------------------------------------------------------------------------------------------------------------
def on_jax() -> Iterator[str]:
    import jax
    import jax.numpy as jnp

    print(f"\nJAX {jax.__version__}\n\n{HEADER}")
    copy = jax.jit(lambda array, by: array + by)
    jobs = [("1 B, float32", SHAPES, jnp.float32), ("1 B, bfloat16, average float32", SHAPES, jnp.bfloat16)]
    for job, shapes, dtype in [*jobs, ("2,000 arrays of 256, float32", SMALL, jnp.float32)]:
        keys = jax.random.split(jax.random.key(0), len(shapes))
        tree = [jax.random.normal(key, shape, dtype) for key, shape in zip(keys, shapes, strict=True)]
        average = ms.Average(tree, ms.ema(0.999))
        moved = models.size(shapes) * (tree[0].dtype.itemsize + 8)
        source = jnp.ones(moved // 8, jnp.float32)
        calls = {
            "ours": lambda average=average, tree=tree: average.update(tree),
            "copy": lambda source=source: copy(source, 1.0),
        }

        def wait(average: Any = average, source: Any = source) -> None:
            jax.block_until_ready((average._contents.mean.arrays, copy(source[:1], 1.0)))

        yield _row("JAX", job, seconds(calls, wait), moved, None, "")


def _row(library: str, job: str, taken: dict[str, float], moved: int, started: int | None, extra: str) -> str:
    other = f"{taken['_foreach_lerp_'] / taken['ours']:.2f}" if "_foreach_lerp_" in taken else ""
    gigabytes, fraction = moved / taken["ours"] / 1e9, taken["copy"] / taken["ours"]
    figures = f"{taken['ours'] * 1e3:.3g} | {gigabytes:.0f} | {fraction:.2f}"
    return f"| {library} | {job} | {figures} | {other} | {'' if started is None else started} | {extra} |"


HEADER = """\
| library | job | ms | GB/s | of the bandwidth of a copy | times `_foreach_lerp_` | launches | memory beyond state |
| --- | --- | --- | --- | --- | --- | --- | --- |"""


def main() -> None:
    try:
        import torch
    except ImportError:
        torch = None  # type: ignore[assignment]
    if torch is None or not torch.cuda.is_available():
        print("There is no GPU that torch can use here: nothing was measured.")
        return
    for row in on_torch():
        print(row, flush=True)
    torch.cuda.empty_cache()
    try:
        import jax

        found = jax.default_backend() == "gpu"
    except ImportError:
        found = False
    if not found:
        print("JAX has no GPU here: nothing was measured with it.")
        return
    for row in on_jax():
        print(row, flush=True)


if __name__ == "__main__":
    main()
