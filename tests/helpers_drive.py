"""Parameters, groups and rates of torch optimizers, for the tests of `drive`."""

import pytest

torch = pytest.importorskip("torch", reason="drive is about torch's optimizers, and torch is not installed")


def parameter():
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones_like(p)
    return p


def groups(*rates, **more):
    return [{"params": [parameter()], "lr": rate, **more} for rate in rates]


def rates(optimizer):
    return [float(group["lr"]) for group in optimizer.param_groups]


def untouched(optimizer):
    """Whether nothing of a driver is on the optimizer."""
    hooks = (
        optimizer._optimizer_step_pre_hooks,
        optimizer._optimizer_step_post_hooks,
        optimizer._optimizer_load_state_dict_post_hooks,
    )
    return not any(hooks) and "add_param_group" not in optimizer.__dict__
