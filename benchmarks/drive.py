"""An optimizer step with three hyperparameters driven, beside torch's LambdaLR and a loop by hand for the other two.

python benchmarks/drive.py

The parameters are small, so that what is beside the step shows. Each round times both contenders, one right after the
other, by the time that the thread had a processor; what is reported are quartiles of the ratio over rounds.
"""

import time
from collections.abc import Callable
from typing import Any

from timing import compared

import multisched as ms

STEPS = 100_000
DECAY, INERTIA = ms.linear(0.1, 0.2, STEPS), ms.linear(0.9, 0.95, STEPS)


def optimizer(kind: str) -> Any:
    """Two groups, one with weight decay and one without."""
    import torch

    parameters = [torch.nn.Parameter(torch.zeros(4)) for _ in range(2)]
    for parameter in parameters:
        parameter.grad = torch.zeros(4)
    groups: list[Any] = [{"params": [p], "weight_decay": d} for p, d in zip(parameters, (0.1, 0.0), strict=True)]
    if kind == "SGD":
        return torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    return torch.optim.AdamW(groups, lr=0.1)


def driven(kind: str) -> Callable[[], object]:
    made = optimizer(kind)
    third: dict[str, Any] = {"momentum": INERTIA} if kind == "SGD" else {"betas": (INERTIA, 0.999)}
    ms.drive(made, lr=ms.cosine(0.1, STEPS), weight_decay=DECAY, **third)
    step: Callable[[], object] = made.step
    return step


def by_hand(kind: str) -> Callable[[], object]:
    import torch

    made = optimizer(kind)
    scheduler = torch.optim.lr_scheduler.LambdaLR(made, ms.cosine(1.0, STEPS))
    count = 0

    def step() -> None:
        nonlocal count
        made.step()
        scheduler.step()
        count += 1
        decay, inertia = DECAY(count), INERTIA(count)
        for group in made.param_groups:
            if group["weight_decay"]:
                group["weight_decay"] = decay
            if kind == "SGD":
                group["momentum"] = inertia
            else:
                group["betas"] = (inertia, 0.999)

    return step


def report() -> str:
    lines = ["| step of | ours, us | theirs, us | ratio | quartiles | aim |", "| --- | --- | --- | --- | --- | --- |"]
    for kind in ("SGD", "AdamW"):
        contenders = {"ours": driven(kind), "theirs": by_hand(kind)}
        found = compared(contenders, rounds=301, budget=0.001, warm=500, clock=time.thread_time)
        ours, theirs = found["ours"], found["theirs"]
        times = f"{ours.seconds * 1e6:.4g} | {theirs.seconds * 1e6:.4g}"
        lines.append(f"| {kind} | {times} | {theirs.ratio:.3f} | {theirs.low:.3f} to {theirs.high:.3f} | at most 1 |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(report())
