"""The schedules of `keras.optimizers.schedules`, as schedules of this library: `CosineDecay(0.1, 1000)(k)`.

The value at step k is the one that Keras uses at its update k, when `optimizer.iterations` is k, from 0. Names, order
and defaults of the arguments are those of Keras 3, without `name`. Each is built of the catalogue: it prints as it, and
becomes data with it. Lengths are in updates.

Bad arguments raise `ScheduleValueError`, `ScheduleOptionError` or `StepCountError`, also some at which Keras gives NaN,
infinity or a sum of two values: `docs/dialects-keras.md` names them.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from multisched.arguments import optional, unchecked
from multisched.dialects import constructor
from multisched.errors import ScheduleValueError, StepCountError, shown
from multisched.schedules import cycle as cycles
from multisched.schedules import decay, inverse
from multisched.schedules.combine import warmup
from multisched.schedules.piecewise import piecewise_constant
from multisched.schedules.readers import at_least, flag, length, non_negative, real, some_steps
from multisched.schedules.schedule import Schedule

__all__ = [
    "CosineDecay",
    "CosineDecayRestarts",
    "ExponentialDecay",
    "InverseTimeDecay",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
]


@constructor(
    initial_learning_rate=real,
    decay_steps=some_steps,
    decay_rate=non_negative,
    staircase=flag,
    examples=[
        "keras.ExponentialDecay(0.1, decay_steps=80, decay_rate=0.5)",
        "keras.ExponentialDecay(1, 3, 0.5, staircase=True)",
    ],
)
def ExponentialDecay(
    initial_learning_rate: float, decay_steps: float, decay_rate: float, staircase: bool = False
) -> Schedule:
    """`initial_learning_rate * decay_rate ** (step / decay_steps)`; `decay_rate` is at least 0.

    `staircase` rounds the exponent down.

    >>> lr = ExponentialDecay(1.0, decay_steps=2, decay_rate=0.25)
    >>> [lr(step) for step in (0, 1, 2, 4)]
    [1.0, 0.5, 0.25, 0.0625]
    """
    if decay_rate == 0:  # whose power of 0 is 1
        return piecewise_constant(initial_learning_rate, {math.ceil(decay_steps) if staircase else 1: 0.0})
    return decay.exponential(initial_learning_rate, decay_rate, decay_steps, staircase=staircase)


@constructor(
    boundaries=unchecked("array"),
    values=unchecked("array"),
    examples=["keras.PiecewiseConstantDecay([40], values=[0.1, 0.05])"],
)
def PiecewiseConstantDecay(boundaries: Sequence[float], values: Sequence[float]) -> Schedule:
    """`values[0]` up to `boundaries[0]`, that step included; then `values[1]` up to `boundaries[1]`, and so on.

    So a new value rules one step after its boundary. Boundaries are at least 0 and do not decrease. A fraction is cut
    off, as Keras does for its count of updates, which is an integer.

    >>> lr = PiecewiseConstantDecay([2, 4], [1.0, 0.5, 0.25])
    >>> [lr(step) for step in (0, 2, 3, 4, 5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    >>> lr
    piecewise_constant(1.0, {3: 0.5, 5: 0.25})
    """
    if not isinstance(boundaries, Sequence) or not isinstance(values, Sequence) or isinstance(boundaries, str):
        raise ScheduleValueError(
            f"PiecewiseConstantDecay takes a list of steps and one of values, got {shown(boundaries)} and "
            f"{shown(values)}."
        )
    if len(values) != len(boundaries) + 1:
        raise ScheduleValueError(
            f"PiecewiseConstantDecay takes one value more than boundaries, got {len(values)} values and "
            f"{len(boundaries)} boundaries."
        )
    steps = [int(length(boundary, f"Boundary {i}")) for i, boundary in enumerate(boundaries)]
    if any(later < earlier for earlier, later in pairwise(steps)):
        raise StepCountError(f"The boundaries of PiecewiseConstantDecay must not decrease, got {list(boundaries)}.")
    first, *others = [real(value, f"Value {i}") for i, value in enumerate(values)]
    return piecewise_constant(first, {step + 1: value for step, value in zip(steps, others, strict=True)})


@constructor(
    initial_learning_rate=real,
    decay_steps=some_steps,
    end_learning_rate=real,
    power=non_negative,
    cycle=flag,
    examples=["keras.PolynomialDecay(0.1, decay_steps=80, power=2)", "keras.PolynomialDecay(1, 4, 0, cycle=True)"],
)
def PolynomialDecay(
    initial_learning_rate: float,
    decay_steps: float,
    end_learning_rate: float = 0.0001,
    power: float = 1.0,
    cycle: bool = False,
) -> Schedule:
    """`end + (initial - end) * (1 - step / decay_steps) ** power`, and `end` from `decay_steps` on.

    With `cycle`, `decay_steps` is stretched to its next multiple instead: at each multiple the value is
    `end_learning_rate`, and right after it jumps up. A `power` of 0 stays at `initial_learning_rate`.

    >>> lr = PolynomialDecay(1.0, decay_steps=4, end_learning_rate=0.0)
    >>> [lr(step) for step in (0, 1, 4, 5)]
    [1.0, 0.75, 0.0, 0.0]
    >>> lr = PolynomialDecay(1.0, decay_steps=4, end_learning_rate=0.0, cycle=True)
    >>> [lr(step) for step in (0, 1, 4, 5)]
    [1.0, 0.75, 0.0, 0.375]
    """
    init, end = initial_learning_rate, end_learning_rate
    if power == 0:
        return decay.constant(init)
    if power == 1 and not cycle:
        return decay.linear(init, end, decay_steps)
    return decay.polynomial(init, end, decay_steps, power, cycle=cycle)


@constructor(
    initial_learning_rate=real,
    decay_steps=some_steps,
    decay_rate=non_negative,
    staircase=flag,
    examples=[
        "keras.InverseTimeDecay(0.1, decay_steps=80, decay_rate=0.5)",
        "keras.InverseTimeDecay(1, 3, 1, staircase=True)",
    ],
)
def InverseTimeDecay(
    initial_learning_rate: float, decay_steps: float, decay_rate: float, staircase: bool = False
) -> Schedule:
    """`initial_learning_rate / (1 + decay_rate * step / decay_steps)`; `decay_rate` is at least 0.

    `staircase` rounds `step / decay_steps` down.

    >>> lr = InverseTimeDecay(1.0, decay_steps=2, decay_rate=1.0, staircase=True)
    >>> [lr(step) for step in (0, 1, 2, 3, 6)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    return inverse.inverse_time(initial_learning_rate, decay_rate, decay_steps, staircase)


@constructor(
    initial_learning_rate=real,
    decay_steps=some_steps,
    alpha=real,
    warmup_target=optional(real),
    warmup_steps=length,
    examples=[
        "keras.CosineDecay(0.1, decay_steps=80)",
        "keras.CosineDecay(0, 4, 0.5, warmup_target=1, warmup_steps=2)",
    ],
)
def CosineDecay(
    initial_learning_rate: float,
    decay_steps: float,
    alpha: float = 0.0,
    warmup_target: float | None = None,
    warmup_steps: float = 0,
) -> Schedule:
    """A half wave from `initial_learning_rate` down to `alpha` times that, in `decay_steps`.

    With a `warmup_target`, first a line from `initial_learning_rate` to it in `warmup_steps`, then the wave from there,
    to `alpha * warmup_target`, in `decay_steps` more. Without one, `warmup_steps` has no effect.

    >>> lr = CosineDecay(0.0, decay_steps=4, alpha=0.5, warmup_target=1.0, warmup_steps=2)
    >>> [round(lr(step), 4) for step in (0, 1, 2, 4, 6, 7)]
    [0.0, 0.5, 1.0, 0.75, 0.5, 0.5]
    """
    if warmup_target is None:
        return decay.cosine(initial_learning_rate, decay_steps, initial_learning_rate * alpha)
    wave = decay.cosine(warmup_target, decay_steps, warmup_target * alpha)
    return warmup(wave, warmup_steps, initial_learning_rate)


@constructor(
    initial_learning_rate=real,
    first_decay_steps=some_steps,
    t_mul=at_least(1),
    m_mul=non_negative,
    alpha=real,
    examples=[
        "keras.CosineDecayRestarts(0.1, first_decay_steps=40)",
        "keras.CosineDecayRestarts(1, 4, m_mul=0.5, alpha=0.1)",
    ],
)
def CosineDecayRestarts(
    initial_learning_rate: float, first_decay_steps: float, t_mul: float = 2.0, m_mul: float = 1.0, alpha: float = 0.0
) -> Schedule:
    """Half waves from `initial_learning_rate` down to `alpha` times that, one after the other.

    The first takes `first_decay_steps`; each is `t_mul` times as long as the one before, at least 1, and `m_mul` times
    as high, measured from the lowest value.

    >>> lr = CosineDecayRestarts(1.0, 4, m_mul=0.5)
    >>> [round(lr(step), 4) for step in (0, 2, 4, 8, 11, 12)]
    [1.0, 0.5, 0.5, 0.25, 0.019, 0.25]
    """
    end = initial_learning_rate * alpha
    return cycles.cosine_restarts(initial_learning_rate, first_decay_steps, t_mul, m_mul, end)
