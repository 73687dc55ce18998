"""Drawn schedules: anything that the catalogue and its arithmetic can build, nested."""

import numpy as np
from hypothesis import strategies as st

import multisched as ms
from multisched.schedules.catalogue import CATALOGUE

moderate = st.one_of(st.integers(-100, 100), st.floats(-100, 100), st.sampled_from([0.1, 1e-3, -2.5e-05]))
"""Numbers with which schedules stay finite in single precision, as long as no powers are taken."""

extreme = st.one_of(moderate, st.sampled_from([-0.0, 10**30, -(2**70), 5e-324, -1e300, 1.7e308, 0.1 + 0.2]))
"""Any finite number that one can write."""

positive = st.one_of(st.integers(1, 4), st.floats(0.125, 8))
lengths = st.one_of(st.integers(1, 10_000), st.floats(0.5, 1e4))
waits = st.one_of(st.just(0), lengths)
steps = st.one_of(st.integers(0, 1000), st.sampled_from([2**31, 2**63, 10**20]))
curves = st.sampled_from(["linear", "cosine", "1-sqrt"])
SHAPES = [(), (2,), (1,), (3, 2), (3, 1)]  # any two of them broadcast


def of(required, optional=()):
    """Keyword arguments: all of the first, some of the others."""
    return st.fixed_dictionaries(required, optional=dict(optional))


@st.composite
def arrays(draw, number, shape):
    """A number, or nested lists of floats."""
    if not shape:
        return draw(number)
    size = int(np.prod(shape))
    return np.reshape(draw(st.lists(number.map(float), min_size=size, max_size=size)), shape).tolist()


def by_steps(number, **limits):
    return st.dictionaries(steps, number, max_size=4, **limits)


def jumps(number, shapes=((),)):
    """`init` and `{step: value}`, all of one shape."""
    return st.sampled_from(shapes).flatmap(
        lambda shape: of({"init": arrays(number, shape), "steps_and_values": by_steps(arrays(number, shape))})
    )


def leaves(n):
    """The arguments of each constructor that takes no schedule; `n` draws its values."""
    ends = {"init": n, "end": n, "steps": waits}
    bools, or_none = st.booleans(), st.one_of(st.none(), n)
    phases = dict.fromkeys(("warmup_steps", "stable_steps", "decay_steps"), waits)
    falls = {"init": n, "rate": positive, "steps": lengths}
    return {
        "constant": of({"value": n}),
        "linear": of(ends, {"begin": waits}),
        "polynomial": of({**ends, "steps": lengths}, {"power": positive, "begin": waits, "cycle": bools}),
        "exponential": of(falls, {"begin": waits, "staircase": bools, "end": or_none}),
        "inverse_time": of(falls, {"staircase": bools}),
        "inverse_sqrt": of({"peak": n, "warmup_steps": waits}, {"timescale": st.one_of(st.none(), lengths)}),
        "noam": of({"d_model": positive, "warmup_steps": lengths}, {"factor": n}),
        "cosine": of({"init": n, "steps": waits}, {"end": n, "exponent": positive, "begin": waits, "k": positive}),
        "cosine_restarts": of(
            {"init": n, "steps": st.integers(1, 1000)},
            {
                "period_mul": st.sampled_from([1, 1.5, 2]),
                "peak_mul": positive,
                "end": n,
                "cycles": st.one_of(st.none(), st.integers(1, 5)),
            },
        ),
        "decay_warmup": of(
            {}, {"inv_gamma": positive, "power": positive, "low": st.floats(0, 0.5), "high": st.floats(0.5, 1)}
        ),
        "tanh": of({"init": n, "steps": waits}, {"end": n, "lower": n, "upper": n}),
        "one_cycle": of(
            {"peak": n, "steps": lengths},
            {
                "warmup": st.floats(0, 0.5),
                "init_div": positive,
                "end_div": positive,
                "anneal": st.sampled_from(["cosine", "linear"]),
                "three_phase": bools,
            },
        ),
        "cyclic": of(
            {"base": n, "peak": n, "up_steps": lengths},
            {
                "down_steps": st.one_of(st.none(), waits),
                "mode": st.sampled_from(["triangular", "triangular2", "exp_range"]),
                "gamma": positive,
            },
        ),
        "warmup_stable_decay": of({"peak": n, **phases}, {"init": n, "end": n, "warmup": curves, "decay": curves}),
        "piecewise_constant": jumps(n),
        "piecewise_scale": of({"init": n, "steps_and_scales": by_steps(n)}),
        "piecewise_interpolate": of(
            {"steps_and_values": by_steps(n, min_size=1)}, {"kind": st.sampled_from(["linear", "cosine"])}
        ),
    }


def joined(below):
    """As many schedules as boundaries, and one more."""
    bounds = st.lists(steps, max_size=3).map(sorted)
    return bounds.flatmap(
        lambda b: of({"schedules": st.lists(below, min_size=len(b) + 1, max_size=len(b) + 1), "boundaries": st.just(b)})
    )


def combinators(below, n):
    """The arguments of each constructor that takes schedules of numbers; `below` draws these."""
    one = {"schedule": below}
    bounds = st.tuples(n, n).map(sorted)
    return {
        "join": joined(below),
        "warmup": of({**one, "steps": waits}, {"init": n}),
        "delay": of({**one, "steps": waits}),
        "repeat": of({**one, "period": st.integers(1, 1000)}),
        "stretch": of({**one, "factor": positive}),
        "clip": bounds.flatmap(lambda b: of({**one, "low": st.just(b[0]), "high": st.just(b[1])})),
    }


def operations(below, n, shapes):
    """The arguments of arithmetic: at least one of them a schedule."""
    other = st.one_of(n, *(arrays(n, shape) for shape in shapes if shape), below)
    both = st.one_of(of({"x1": below, "x2": other}), of({"x1": other, "x2": below}))
    unary = dict.fromkeys(("negative", "abs"), of({"x": below}))
    return unary | dict.fromkeys(("add", "subtract", "multiply", "divide", "pow", "minimum", "maximum"), both)


def _built(arguments):
    return st.sampled_from(list(arguments)).flatmap(
        lambda name: arguments[name].map(lambda given: CATALOGUE[name](**given))
    )


def schedules(depth=3, numbers=moderate, shapes=((),)):
    """Any schedule of the catalogue and of arithmetic, nested at most so deep.

    `numbers` draws the values; `shapes`, which must broadcast with each other (`SHAPES`), are those that they may have.
    """
    if depth == 0:
        return _built(leaves(numbers))
    below = schedules(depth - 1, numbers)
    kinds = [_built(leaves(numbers)), _built(combinators(below, numbers))]
    if any(shapes):
        kinds.append(jumps(numbers, shapes).map(lambda given: ms.piecewise_constant(**given)))
    return st.one_of(*kinds, _built(operations(schedules(depth - 1, numbers, shapes), numbers, shapes)))
