"""The groups of published programs under `drive`, beside their formulas written out, at every step.

Each test sets up the groups as the program does, drives them as docs/driving.md has it, and takes real steps. The
formulas are transcribed from the programs' own training loops, which are named at each.
"""

import math

import pytest

import multisched as ms

torch = pytest.importorskip("torch", reason="drive is about torch's optimizers, and torch is not installed")


def parameter(*shape):
    p = torch.nn.Parameter(torch.ones(shape or (2, 2)))
    p.grad = torch.ones_like(p)
    return p


def during_steps(optimizer, *names):
    """A list that gets, at each step, what each group has in the middle of it; NaN for what it has not."""
    seen = []

    def see(stepped, *_):
        seen.append([tuple(float(g.get(n, math.nan)) for n in names) for g in stepped.param_groups])

    optimizer.register_step_pre_hook(see)
    return seen


def close(seen, wanted):
    assert len(seen) == len(wanted) > 0
    for k, (have, want) in enumerate(zip(seen, wanted, strict=True)):
        for i, (a, b) in enumerate(zip(have, want, strict=True)):
            assert a == pytest.approx(b, rel=1e-12, abs=1e-15, nan_ok=True), f"step {k}, group {i}"


def test_nanogpt():
    """Matrices decay, vectors do not; every group has the same rate (karpathy/nanoGPT, train.py, get_lr)."""
    rate, least, warmup, until, decay = 6e-4, 6e-5, 20, 60, 0.1

    def get_lr(it):
        if it < warmup:
            return rate * it / warmup
        if it > until:
            return least
        ratio = (it - warmup) / (until - warmup)
        return least + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (rate - least)

    groups = [
        {"params": [parameter()], "weight_decay": decay},
        {"params": [parameter(2)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95))
    ms.drive(optimizer, lr=ms.warmup(ms.cosine(rate, until - warmup, least), warmup), weight_decay=ms.constant(decay))
    seen = during_steps(optimizer, "lr", "weight_decay")
    for _ in range(80):
        optimizer.step()
    close(seen, [[(get_lr(k), decay), (get_lr(k), 0.0)] for k in range(80)])


class MuonAdamW(torch.optim.Optimizer):
    """An optimizer without defaults, whose groups are of two kinds, with hyperparameters of their own."""

    def __init__(self, groups):
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.add_(p.grad, alpha=-group["lr"])


LENGTH = 900


def nanochat_rate(it):
    """karpathy/nanochat, scripts/base_train.py, get_lr_multiplier."""
    warmup, warmdown, final = 40, round(0.65 * LENGTH), 0.05
    if it < warmup:
        return (it + 1) / warmup
    if it <= LENGTH - warmdown:
        return 1.0
    progress = (LENGTH - it) / warmdown
    return progress * 1.0 + (1 - progress) * final


def nanochat_momentum(it):
    """The same file, get_muon_momentum."""
    warmdown = round(0.65 * LENGTH)
    start = LENGTH - warmdown
    if it < 400:
        frac = it / 400
        return (1 - frac) * 0.85 + frac * 0.97
    if it >= start:
        progress = (it - start) / warmdown
        return 0.97 * (1 - progress) + 0.90 * progress
    return 0.97


def nanochat_decay(it, decay=0.28):
    """The same file, get_weight_decay."""
    return decay * 0.5 * (1 + math.cos(math.pi * it / LENGTH))


NANOCHAT = [
    *({"kind": "adamw", "lr": lr, "betas": (0.8, 0.95), "weight_decay": 0.01} for lr in (0.008, 0.3, 0.5)),
    *({"kind": "muon", "lr": 0.02, "momentum": 0.95, "ns_steps": 5, "weight_decay": 0.28} for _ in range(2)),
]


def nanochat_rules():
    return [ms.from_function(f) for f in (nanochat_rate, nanochat_momentum, nanochat_decay)]


def test_nanochat():
    """Rates relative to each group's own, momentum and decay of Muon groups alone; the optimizer has no defaults."""
    groups = [{"params": [parameter()], **group} for group in NANOCHAT]
    optimizer = MuonAdamW(groups)
    rate, momentum, decay = nanochat_rules()
    muon = [i for i, group in enumerate(optimizer.param_groups) if group["kind"] == "muon"]
    ms.drive(
        optimizer, lr=ms.relative(rate), momentum=dict.fromkeys(muon, momentum), weight_decay=dict.fromkeys(muon, decay)
    )
    seen = during_steps(optimizer, "lr", "momentum", "weight_decay")
    for _ in range(LENGTH):
        optimizer.step()
    wanted = []
    for k in range(LENGTH):
        rates = [group["lr"] * nanochat_rate(k) for group in NANOCHAT]
        muon_values = (nanochat_momentum(k), nanochat_decay(k))
        wanted.append([(r, *((math.nan, 0.01) if i < 3 else muon_values)) for i, r in enumerate(rates)])
    close(seen, wanted)


def test_nanochat_with_two_optimizers():
    """The same by torch's AdamW and Muon, a driver for both: groups are counted over the two, `defaults` differ."""
    adamw = torch.optim.AdamW([{"params": [parameter()], "lr": g["lr"], "weight_decay": 0.0} for g in NANOCHAT[:3]])
    muon = torch.optim.Muon([parameter()], lr=0.02, momentum=0.95, weight_decay=0.28, ns_steps=1)
    rate, momentum, decay = nanochat_rules()
    driver = ms.drive([adamw, muon], lr=ms.relative(rate), momentum={3: momentum}, weight_decay={3: decay})
    seen = [during_steps(optimizer, "lr", "momentum", "weight_decay") for optimizer in (adamw, muon)]
    for _ in range(60):
        adamw.step()
        muon.step()
    close(seen[0], [[(g["lr"] * nanochat_rate(k), math.nan, 0.0) for g in NANOCHAT[:3]] for k in range(60)])
    close(seen[1], [[(0.02 * nanochat_rate(k), nanochat_momentum(k), nanochat_decay(k))] for k in range(60)])
    assert driver.state_dict() == {"count": [60, 60]}
    assert driver.values()["momentum"] == [None, None, None, nanochat_momentum(60)]


def test_timm_layer_decay():
    """The rate of the schedule times `lr_scale`, where a group has it (timm, scheduler/scheduler.py, update_groups)."""
    layers, decay, weight_decay = 6, 0.75, 0.05
    groups = []
    for layer in range(layers):
        for wd in (weight_decay, 0.0):
            group = {"params": [parameter()], "weight_decay": wd, "lr_scale": decay ** (layers - 1 - layer)}
            groups.append(group)
    del groups[-1]["lr_scale"]
    declared = [(group.get("lr_scale", 1), group["weight_decay"]) for group in groups]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    lr = ms.warmup(ms.cosine(1e-3, 30, 1e-5), 5, 1e-6)
    ms.drive(optimizer, lr=lr, weight_decay=ms.constant(weight_decay), scale={"lr": "lr_scale"})
    seen = during_steps(optimizer, "lr", "weight_decay")

    def rate(t):
        if t < 5:
            return 1e-6 + t * (1e-3 - 1e-6) / 5
        return 1e-5 + 0.5 * (1e-3 - 1e-5) * (1 + math.cos(math.pi * min(t - 5, 30) / 30))

    for _ in range(40):
        optimizer.step()
    close(seen, [[(rate(t) * scale, wd) for scale, wd in declared] for t in range(40)])


def test_dinov2():
    """Multipliers of rate and decay, a last layer that is frozen at first (facebookresearch/dinov2, train/train.py).

    Its CosineScheduler warms up to the peak inclusive; the schedule of the last layer is the same, with 0 at first.
    """
    base, final, total, warmup, frozen = 4e-3, 1e-6, 60, 10, 15
    kinds = [  # lr_multiplier, wd_multiplier, is_last_layer: fused groups of a small transformer
        (0.9**3, 1.0, False),
        (0.9**3, 0.0, False),
        (0.9**3 * 0.2, 1.0, False),
        (0.9, 1.0, False),
        (0.9, 0.0, False),
        (1.0, 1.0, False),
        (1.0, 1.0, True),
    ]

    def cosine_scheduler(base, final, warmup=0):
        line = [base * i / (warmup - 1) for i in range(warmup)]
        rest = total - warmup
        return line + [final + 0.5 * (base - final) * (1 + math.cos(math.pi * i / rest)) for i in range(rest)]

    lrs, wds = cosine_scheduler(base, final, warmup), cosine_scheduler(0.04, 0.4)
    last = [0.0] * frozen + lrs[frozen:]
    wanted = [
        [((last if is_last else lrs)[k] * lr_m, wds[k] * wd_m) for lr_m, wd_m, is_last in kinds] for k in range(total)
    ]
    keys = ("lr_multiplier", "wd_multiplier", "is_last_layer")
    groups = [{"params": [parameter()], **dict(zip(keys, kind, strict=True))} for kind in kinds]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999))
    lr = ms.join([ms.linear(0.0, base, warmup - 1), ms.cosine(base, total - warmup, final)], [warmup])
    thawed = ms.piecewise_constant(0.0, {frozen: 1.0}) * lr
    ms.drive(
        optimizer,
        lr={i: thawed if group["is_last_layer"] else lr for i, group in enumerate(optimizer.param_groups)},
        weight_decay=ms.cosine(0.04, total, 0.4),
        scale={"lr": "lr_multiplier", "weight_decay": "wd_multiplier"},
    )
    seen = during_steps(optimizer, "lr", "weight_decay")
    for _ in range(total):
        optimizer.step()
    close(seen, wanted)


def test_cleanrl():
    """A rate that falls with each rollout, and many steps for each (vwxyzjn/cleanrl, ppo.py): a clock set by hand."""
    rate, updates, steps = 2.5e-4, 12, 4
    optimizer = torch.optim.Adam([parameter()], lr=rate, eps=1e-5)
    driver = ms.drive(optimizer, lr=ms.linear(rate, 0.0, updates), manual=True)
    seen, wanted = during_steps(optimizer, "lr"), []
    for update in range(1, updates + 1):
        driver.step(at=update - 1)
        for _ in range(steps):
            optimizer.step()
            frac = 1.0 - (update - 1.0) / updates
            wanted.append([(frac * rate,)])
    close(seen, wanted)


def test_yolo():
    """Biases warm up from a rate above, all others from 0, the momentum as well (ultralytics, engine/trainer.py).

    Rates are interpolated over batches, though several batches make a step, and fall by epochs: a clock of batches.
    """
    lr0, lrf, epochs, nb, nw = 0.01, 0.01, 5, 12, 24
    bias_start, momentum_start, momentum, decay, accumulate = 0.1, 0.8, 0.937, 5e-4, 3

    def interp(x, start, end):
        return start + (end - start) * x / nw

    def lf(epoch):
        return max(1 - epoch / epochs, 0) * (1.0 - lrf) + lrf

    def yolo(ni, is_bias):
        epoch = ni // nb
        if ni < nw:
            return interp(ni, bias_start if is_bias else 0.0, lr0 * lf(epoch)), interp(ni, momentum_start, momentum)
        return lr0 * lf(epoch), momentum

    groups = [
        {"params": [parameter()], "weight_decay": decay, "name": "weight"},
        {"params": [parameter()], "weight_decay": 0.0, "name": "norm"},
        {"params": [parameter()], "weight_decay": 0.0, "name": "bias"},
    ]
    optimizer = torch.optim.SGD(groups, lr=lr0, momentum=momentum, nesterov=True)

    # the recipe: by epochs, in a clock of batches, is a value for each stretch of `nb` steps
    by_epoch = ms.piecewise_constant(lr0 * lf(0), {nb * epoch: lr0 * lf(epoch) for epoch in range(1, epochs)})
    warm = ms.linear(0.0, 1.0, nw)
    others = warm * by_epoch
    bias = (1 - warm) * bias_start + warm * by_epoch
    driver = ms.drive(
        optimizer,
        lr={"weight": others, "norm": others, "bias": bias},
        momentum=ms.linear(momentum_start, momentum, nw),
        manual=True,
    )
    seen, wanted = during_steps(optimizer, "lr", "momentum", "weight_decay"), []
    for ni in range(nb * epochs):
        driver.step(at=ni)
        if ni % accumulate == accumulate - 1:
            optimizer.step()
            wanted.append([(*yolo(ni, name == "bias"), wd) for name, wd in (("w", decay), ("n", 0.0), ("bias", 0.0))])
    close(seen, wanted)
