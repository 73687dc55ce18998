"""Averages of whole models beside other libraries, and beside one pass over an array of the same size: the limit.

python benchmarks/trees.py
"""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import models
import numpy as np
from timing import Timed, compared

import multisched as ms

DECAY = 0.999
SMALL = [(256,)] * 2000
Calls = dict[str, Callable[[], object]]


def timed(calls: Calls, rounds: int) -> dict[str, Timed]:
    """Each beside the first, over rounds in which each is called once."""
    return compared(calls, rounds, budget=0, warm=3)


def milliseconds(call: Callable[[], object], rounds: int) -> float:
    """For one call, the median over rounds."""
    return 1e3 * timed({"": call}, rounds)[""].seconds


# --- contenders ------------------------------------------------------------------------------------------------------
def limit(numbers: int) -> Callable[[], object]:
    """One pass over two flat arrays of float32: torch's, by all cores."""
    import torch

    mean, value = torch.zeros(numbers), torch.ones(numbers)
    return lambda: mean.lerp_(value, 1 - DECAY)


def on_numpy(arrays: list[np.ndarray]) -> Calls:
    from multisched_backends import host

    average, other = ms.Average(arrays, ms.ema(DECAY)), ms.Average(arrays, ms.ema(DECAY))
    plain = [np.zeros_like(array) for array in arrays]
    share = np.float32(1 - DECAY)

    def loop() -> None:
        for mean, value in zip(plain, arrays, strict=True):
            mean += share * (value - mean)

    compiled = host.compiled

    def without_numba() -> None:
        host.compiled = lambda: False  # type: ignore[assignment]
        try:
            other.update()
        finally:
            host.compiled = compiled

    return {"ours, extra `fast`": average.update, "ours": without_numba, "a loop over arrays": loop}


def on_torch(arrays: list[np.ndarray]) -> Calls:
    import torch
    from ema_pytorch import EMA
    from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_ema_multi_avg_fn
    from torch_ema import ExponentialMovingAverage

    model = torch.nn.ParameterList([torch.nn.Parameter(torch.tensor(array)) for array in arrays])
    means, values = [torch.zeros_like(p) for p in model], [p.detach() for p in model]
    with torch.no_grad():
        calls: Calls = {"ours": ms.Average(model, ms.ema(DECAY)).update}
        calls["_foreach_lerp_"] = lambda: torch._foreach_lerp_(means, values, 1 - DECAY)
        multi = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(DECAY))
        calls["AveragedModel, multi_avg_fn"] = lambda: multi.update_parameters(model)
        single = AveragedModel(model, avg_fn=get_ema_avg_fn(DECAY))
        calls["AveragedModel, avg_fn"] = lambda: single.update_parameters(model)
        calls["ema-pytorch"] = EMA(model, beta=DECAY, update_after_step=0, update_every=1).update
        other = ExponentialMovingAverage(model.parameters(), decay=DECAY)
        calls["torch_ema"] = other.update
    return calls


def on_jax(arrays: list[np.ndarray]) -> Calls:
    import jax
    import jax.numpy as jnp
    import optax

    tree = [jnp.asarray(array) for array in arrays]

    def donated() -> None:
        held["donated"] = jax.block_until_ready(step(tree, held["donated"]))

    def kept() -> None:
        held["kept"] = jax.block_until_ready(plain(tree, held["kept"]))

    def incremental(new: Any, old: Any) -> Any:
        return optax.incremental_update(new, old, 1 - DECAY)

    held: dict[str, Any] = {name: jax.tree.map(jnp.zeros_like, tree) for name in ("donated", "kept")}
    step, plain = jax.jit(incremental, donate_argnums=1), jax.jit(incremental)
    return {
        "ours": ours_on("jax", arrays),
        "optax.incremental_update, jitted, donated": donated,
        "the same, not donated": kept,
    }


BACKENDS = {"torch": on_torch, "jax": on_jax, "numpy": on_numpy}
AIMS = {
    ("GPT-2 small", "torch"): "0.95 of the limit, and every other",
    ("GPT-2 small", "jax"): "0.95 of the limit, and every other",
    ("GPT-2 small", "numpy"): "0.9 of the limit with `fast`; 2.5 times a loop without",
    ("2,000 of 256", "torch"): "2.5 times `_foreach_lerp_`, 10 times AveragedModel and ema-pytorch",
    ("2,000 of 256", "jax"): "2 times optax, jitted and donated",
    ("2,000 of 256", "numpy"): "6 times a loop",
}


def report(backends: list[str]) -> str:
    """Tables of times, of memory, and of growth."""
    head = "| model | backend | contender | ms | ours is faster | quartiles | of the limit | aim |"
    lines = [head, "| --- |" + " --- |" * 7]
    for job, shapes, rounds in (("GPT-2 small", models.gpt2(), 15), ("2,000 of 256", SMALL, 101)):
        for backend in backends:
            lines += _rows(job, backend, shapes, rounds)
    return "\n".join([*lines, "", *memory(backends), "", *growth(backends)])


def _rows(job: str, backend: str, shapes: list[models.Shape], rounds: int) -> Iterator[str]:
    calls = BACKENDS[backend](models.arrays(shapes))
    calls["the limit"] = limit(models.size(shapes))
    taken = timed(calls, rounds)
    ours = next(iter(taken.values()))
    for name, other in taken.items():
        aim = AIMS[job, backend] if other is ours else ""
        faster = f"{1 / other.ratio:.2f} | {1 / other.high:.2f} to {1 / other.low:.2f}"
        part = f"{taken['the limit'].seconds / other.seconds:.2f}"
        yield f"| {job} | {backend} | {name} | {1e3 * other.seconds:.3g} | {faster} | {part} | {aim} |"


# --- memory ----------------------------------------------------------------------------------------------------------
def memory(backends: list[str]) -> Iterator[str]:
    """What 20 updates of GPT-2 small take beyond the model and the average, each in a process of its own."""
    yield "| backend | state, MB | peak of updates beyond it, MB | percent of the state | aim |"
    yield "| --- | --- | --- | --- | --- |"
    for backend in backends:
        command = [sys.executable, __file__, "memory", backend]
        state, beyond = map(float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
        yield f"| {backend} | {state:.0f} | {beyond:.1f} | {100 * beyond / state:.1f} | at most 2 |"


def measure_memory(backend: str) -> None:
    """Print the size of the state, and by how much updates raise the peak of this process."""
    calls = ours_on(backend, models.arrays(models.gpt2()))
    for _ in range(3):
        calls()  # what is compiled and started once
    before = peak()
    for _ in range(20):
        calls()
    print(models.size(models.gpt2()) * 4 / 2**20, (peak(forget=False) - before) / 2**10)


def peak(forget: bool = True) -> int:
    """The most kilobytes that this process has held, since it was last told to forget that; Linux has it."""
    if forget:
        Path("/proc/self/clear_refs").write_text("5")
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


def ours_on(backend: str, arrays: list[np.ndarray]) -> Callable[[], object]:
    """One update of an average of arrays, on a backend."""
    if backend == "numpy":
        return ms.Average(arrays, ms.ema(DECAY)).update
    if backend == "torch":
        import torch

        return ms.Average([torch.from_numpy(array) for array in arrays], ms.ema(DECAY)).update
    import jax

    tree = [jax.numpy.asarray(array) for array in arrays]
    average = ms.Average(tree, ms.ema(DECAY))

    def update() -> None:
        average.update(tree)
        jax.block_until_ready(average._contents.mean.arrays)

    return update


# --- growth ----------------------------------------------------------------------------------------------------------
def growth(backends: list[str]) -> Iterator[str]:
    """Time for a byte from 1 MB to 2 GB, and for a leaf from 1 to 20,000: constant, if time is linear."""
    yield "| backend | what grows | ms for each |"
    yield "| --- | --- | --- |"
    for backend in backends:
        found = []
        for megabytes in (1, 8, 64, 512, 2048):
            arrays = [np.zeros(2**18, np.float32)] * megabytes
            update = ours_on(backend, arrays)
            found.append(f"{megabytes} MB: {milliseconds(update, 9):.3g}")
        yield f"| {backend} | bytes, in arrays of 1 MB | {', '.join(found)} |"
        found = []
        for leaves in (1, 20, 200, 2000, 20000):
            update = ours_on(backend, [np.zeros(256, np.float32) for _ in range(leaves)])
            found.append(f"{leaves:,}: {milliseconds(update, 31):.3g}")
        yield f"| {backend} | leaves of 256 | {', '.join(found)} |"


if __name__ == "__main__":
    if sys.argv[1:2] == ["memory"]:
        measure_memory(sys.argv[2])
    else:
        print(report(sys.argv[1:] or ["torch", "jax", "numpy"]))
