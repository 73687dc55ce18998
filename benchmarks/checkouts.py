"""Two checkouts of multisched side by side, such as before and after a change of its insides.

python benchmarks/checkouts.py BEFORE AFTER [job ...]

BEFORE and AFTER are folders with a copy of the repository each. Each copy runs in a process of its own. The two take
turns, round by round, each time in the other order, so that a machine that becomes slower slows both. What is compared
is the ratio of the two times in a round, by its median and quartiles. Times are those of the processor, so that other
programs on the machine disturb less.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from timing import ratios, seconds

ROUNDS, SECONDS = 31, 0.02
Job = Callable[[], object]


# --- the jobs, each made in a process of a checkout ------------------------------------------------------------------
def schedules() -> dict[str, Job]:
    import multisched as ms

    cosine, steps = ms.cosine(0.1, 1000), ms.piecewise_constant(0.1, {4: 1, 8: 2})
    composed = ms.warmup(0.5 * cosine + steps, 100)
    text = "0.5 * warmup(cosine(0.1, 1000), 100, init=0.001)"
    return {
        "lr(k), cosine": lambda: cosine(500),
        "lr(k), piecewise_constant": lambda: steps(5),
        "lr(k), a sum with a warm-up": lambda: composed(50),
        "cosine(0.1, 1000)": lambda: ms.cosine(0.1, 1000),
        "parse": lambda: ms.parse(text),
    }


def steps(backend: str) -> dict[str, Job]:
    import multisched as ms

    rules = {"ema": ms.ema(0.9), "ema, debias": ms.ema(0.9, debias=True), "sma": ms.sma(4), "swa": ms.swa()}
    value = ms.get_backend(backend).asarray([0.5, 1.5], "float32")
    states = {name: rule.step(rule.init(value), value)[0] for name, rule in rules.items()}
    return {
        f"rule.step, {name}, {backend}": lambda rule=rule, state=states[name]: rule.step(state, value)
        for name, rule in rules.items()
    }


def declared(backend: str) -> dict[str, Job]:
    import multisched as ms

    value = ms.get_backend(backend).asarray([0.5, 1.5], "float32")
    with ms.Graph("benchmark"), ms.use_backend(backend):
        lr = ms.PiecewiseConstant(0.1, {4: 1, 8: 2})
        f = ms.function(outputs=lr, updates=ms.get_updates())
        x = ms.Placeholder((2,), "float32")
        average, _ = ms.ExponentialMovingAverage(x, 0.9)
        g = ms.function(x, outputs=average, updates=ms.get_updates(variables=average.variables))
    return {
        f"declared PiecewiseConstant, {backend}": f,
        f"declared ExponentialMovingAverage, {backend}": lambda held=average: g(value),
    }


def models(backend: str) -> dict[str, Job]:
    import numpy as np

    import multisched as ms

    arrays = [np.ones(shape, np.float32) for shape in [(16, 16), (16,)] * 4]
    tree = [ms.get_backend(backend).asarray(array, "float32") for array in arrays]
    average, debiased = ms.Average(tree, ms.ema(0.9)), ms.Average(tree, ms.ema(ms.linear(0.1, 0.9, 9), debias=True))
    return {
        f"Average.update, ema, {backend}": lambda: average.update(tree),
        f"Average.update, ema of a schedule, debias, {backend}": lambda: debiased.update(tree),
    }


def optimizers() -> dict[str, Job]:
    import torch

    import multisched as ms

    parameter = torch.nn.Parameter(torch.zeros(4))
    parameter.grad = torch.zeros(4)
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    ms.drive(optimizer, lr=ms.cosine(0.1, 100_000), momentum=ms.linear(0.9, 0.95, 100_000))
    return {"drive, a step of SGD": optimizer.step}


def jobs() -> dict[str, Job]:
    made = schedules()
    for backend in ("numpy", "torch", "jax"):
        made |= steps(backend) | declared(backend) | models(backend)
    return made | optimizers()


# --- a process of a checkout -----------------------------------------------------------------------------------------
def serve() -> None:
    """Tell the names of the jobs; then answer each line `job <tab> calls` with the seconds that one call takes."""
    made = jobs()
    print("\t".join(made), flush=True)
    for line in sys.stdin:
        name, calls = line.rstrip("\n").split("\t")
        print(seconds(made[name], int(calls), time.process_time), flush=True)


class Checkout:
    """A process that runs the jobs with the multisched of a folder."""

    def __init__(self, folder: str) -> None:
        root = Path(folder).resolve()
        path = os.pathsep.join([str(root), str(root / "backends")])
        self.environment = {**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu", "PYTHONDONTWRITEBYTECODE": ""}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self.environment,
        )
        self.names = self.read().split("\t")

    def read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the process of a checkout has ended; what it wrote stands above")
        return line.rstrip("\n")

    def seconds(self, name: str, calls: int) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{name}\t{calls}\n")
        self.process.stdin.flush()
        return float(self.read())

    def imported(self) -> float:
        """The seconds that `import multisched` takes after `import numpy`, in a process of its own."""
        code = "import numpy, time; start = time.process_time(); import multisched; print(time.process_time() - start)"
        command = [sys.executable, "-P", "-c", code]
        return float(subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True).stdout)


# --- side by side ----------------------------------------------------------------------------------------------------
def rounds(before: Callable[[], float], after: Callable[[], float]) -> str:
    """A row's numbers: both medians, and the quartiles of the ratio of after to before."""
    first, second = [], []
    for i in range(ROUNDS):
        if i % 2:
            second.append(after())
            first.append(before())
        else:
            first.append(before())
            second.append(after())
    low, middle, high = ratios(zip(second, first, strict=True))
    times = f"{statistics.median(first) * 1e6:.4g} | {statistics.median(second) * 1e6:.4g}"
    return f"{times} | {middle:.3f} | {low:.3f} to {high:.3f}"


def report(before: Checkout, after: Checkout, chosen: list[str]) -> None:
    print("| job | before, us | after, us | ratio | quartiles |\n| --- | --- | --- | --- | --- |")
    for name in before.names:
        if chosen and not any(part in name for part in chosen):
            continue
        for checkout in (before, after):
            checkout.seconds(name, 50)  # whatever is compiled or cached once
        calls = max(1, int(SECONDS / before.seconds(name, 50)))
        row = rounds(lambda n=name, c=calls: before.seconds(n, c), lambda n=name, c=calls: after.seconds(n, c))
        print(f"| {name} | {row} |", flush=True)
    if not chosen or "import" in chosen:
        before.imported(), after.imported()  # the bytecode is written
        print(f"| import multisched, beyond NumPy | {rounds(before.imported, after.imported)} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    elif len(sys.argv) < 3:
        sys.exit(__doc__)
    else:
        report(Checkout(sys.argv[1]), Checkout(sys.argv[2]), sys.argv[3:])
