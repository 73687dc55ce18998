"""The schedules of `optax.schedules`, as schedules of this library: `cosine_decay_schedule(0.1, 1000)(k)`.

The value at step k is the one that optax uses at its update k, counted from 0. Names, order and defaults of the
arguments are optax's. All but callables are built of the catalogue: they print as it, and become data with it. Values
are numbers, not arrays; lengths are in updates. Where optax takes a length of none, or less, for "stay where you are",
so does this.

Bad arguments raise `ScheduleValueError`, `ScheduleOptionError`, `StepCountError` or `StepKeyError`, also some at which
optax gives NaN, infinity or a sum of two phases: `docs/dialects-optax.md` names them.
"""

from multisched.dialects.optax_curves import (
    constant_schedule,
    cosine_decay_schedule,
    cosine_onecycle_schedule,
    exponential_decay,
    linear_onecycle_schedule,
    linear_schedule,
    piecewise_constant_schedule,
    piecewise_interpolate_schedule,
    polynomial_schedule,
)
from multisched.dialects.optax_joined import (
    join_schedules,
    sgdr_schedule,
    warmup_constant_schedule,
    warmup_cosine_decay_schedule,
    warmup_exponential_decay_schedule,
)

__all__ = [
    "constant_schedule",
    "cosine_decay_schedule",
    "cosine_onecycle_schedule",
    "exponential_decay",
    "join_schedules",
    "linear_onecycle_schedule",
    "linear_schedule",
    "piecewise_constant_schedule",
    "piecewise_interpolate_schedule",
    "polynomial_schedule",
    "sgdr_schedule",
    "warmup_constant_schedule",
    "warmup_cosine_decay_schedule",
    "warmup_exponential_decay_schedule",
]
