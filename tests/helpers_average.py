"""What the tests of `ms.Average` compare with: weighted sums of all values in double precision, and bits."""

import numpy as np
from helpers import make, to_numpy
from helpers_laws import shares_memory

import multisched as ms


# --- the weight of each of `count` values, as the rules' formulas state it -------------------------------------------
def _ema(decays):
    """The first value, faded by all decays after it; each later one enters with the rest."""
    entering = [1.0] + [1 - decay for decay in decays[1:]]
    return [w * np.prod(decays[j + 1 :]) for j, w in enumerate(entering)]


def _debiased(alpha):
    def weights(count):
        raw = np.array([(1 - alpha) * alpha ** (count - 1 - j) for j in range(count)])
        return list(raw / raw.sum())

    return weights


def _power(gamma):
    return lambda count: [((j + 1) / count) ** (gamma + 1) - (j / count) ** (gamma + 1) for j in range(count)]


def _paced(weights, start, every):
    def of_all(count):
        if count <= start:
            return [0.0] * (count - 1) + [1.0]
        seen = range(start, count, every)
        entering = dict(zip(seen, weights(len(seen)), strict=True))
        return [entering.get(j, 0.0) for j in range(count)]

    return of_all


def _uniform(count):
    return [1 / count] * count


STEPPED = {0: 0.5, 2: 0.25, 4: 0.75}


def _stepped(count):
    return [STEPPED[max(k for k in STEPPED if k <= n)] for n in range(count)]


RULES = {
    "ema": (ms.ema(0.9), lambda count: _ema([0.9] * count)),
    "ema without memory": (ms.ema(0.0), lambda count: [0.0] * (count - 1) + [1.0]),
    "ema of the first": (ms.ema(1.0), lambda count: [1.0] + [0.0] * (count - 1)),
    "ema with decay_min": (
        ms.ema(0.9, decay_min=True),
        lambda c: _ema([min(0.9, (1 + n) / (10 + n)) for n in range(c)]),
    ),
    "ema with debias": (ms.ema(0.9, debias=True), _debiased(0.9)),
    "ema of a schedule": (ms.ema(ms.piecewise_constant(0.5, {2: 0.25, 4: 0.75})), lambda c: _ema(_stepped(c))),
    "ema of a half-life": (ms.ema(halflife=3.0), lambda count: _ema([2 ** (-1 / 3)] * count)),
    "swa": (ms.swa(), _uniform),
    "power_ema": (ms.power_ema(gamma=5.0), _power(5.0)),
    "paced ema": (ms.paced(ms.ema(0.75), start=2, every=2), _paced(lambda c: _ema([0.75] * c), 2, 2)),
    "paced swa": (ms.paced(ms.swa(), start=1), _paced(_uniform, 1, 1)),
    "paced with debias": (ms.paced(ms.ema(0.5, debias=True), every=3), _paced(_debiased(0.5), 0, 3)),
}
"""Each rule that can average a model, with the weights of its values."""


# --- trees -----------------------------------------------------------------------------------------------------------
LEAVES = {
    "layers.0.0": ((3, 4), "float32"),
    "layers.0.1": ((4,), "float16"),
    "layers.1.bias": ((4,), "float32"),
    "layers.1.weight": ((4, 2), "float32"),
    "scale": ((), "float32"),
    "empty": ((0, 3), "float32"),
    "long": ((17_001,), "float32"),
    "double": ((2, 3), "float64"),
    "phase": ((2, 2), "complex64"),
    "brain": ((5,), "bfloat16"),
    "steps": ((), "int32"),
    "seen": ((3,), "int64"),
    "mask": ((2, 2), "bool"),
}
"""What a mixed tree holds, by name."""


def held(backend):
    """The leaves of LEAVES that a backend can have."""
    known = ms.get_backend(backend)
    return {name: leaf for name, leaf in LEAVES.items() if known.supports(leaf[1])}


def drawn(rng, shape, dtype):
    """Values of a leaf on the host."""
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if dtype.startswith("int"):
        return rng.integers(-100, 100, shape).astype(dtype)
    values = rng.standard_normal(shape)
    if dtype.startswith("complex"):
        values = values + 1j * rng.standard_normal(shape)
    return np.asarray(values).astype(ms.get_backend("numpy").dtype(dtype))


def hosts(backend, count, seed=0):
    """The values of all leaves, by name, at each of `count` moments."""
    rng = np.random.default_rng(seed)
    return [{name: drawn(rng, *leaf) for name, leaf in held(backend).items()} for _ in range(count)]


def nested(leaves, **others):
    """A tree of these leaves, given by their names: dicts, a list, a tuple, None, and what is no array."""
    leaves = dict(leaves)
    first = tuple(leaves.pop(name, None) for name in ("layers.0.0", "layers.0.1"))
    second = {"bias": leaves.pop("layers.1.bias"), "weight": leaves.pop("layers.1.weight")}
    return {"layers": [first, second], "nothing": None, **leaves, **others}


def flat(tree, path=""):
    """Leaves by name, of what `nested` makes; the library is not asked."""
    if isinstance(tree, dict | list | tuple):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return {k: v for key, child in items for k, v in flat(child, f"{path}.{key}" if path else str(key)).items()}
    return {} if tree is None else {path: tree}


def on_backend(leaves, backend):
    return {name: make(value, backend, value.dtype.name) for name, value in leaves.items()}


def on_host(leaves, backend):
    return {name: to_numpy(value, backend) for name, value in leaves.items()}


def tree_of(leaves, backend, **others):
    """A mixed tree on a backend, from the values of its leaves on the host."""
    return nested(on_backend(leaves, backend), **others)


def bits(leaves):
    """Shape, dtype and bytes of each leaf on the host."""
    return {name: (np.shape(x), np.asarray(x).dtype.name, np.asarray(x).tobytes()) for name, x in leaves.items()}


def bits_of(avg, backend):
    """All that an average holds, to the bit."""
    state = flat(avg.state_dict())
    count, _ = state.pop("count"), state.pop("rule")
    return count, bits({name: to_numpy(value, backend) for name, value in state.items() if name != "weight"})


def is_averaged(name):
    return LEAVES[name][1].startswith(("float", "bfloat", "complex"))


def weighted(values, weights):
    """Their weighted sum in double precision; a value of no weight may be anything."""
    wide = [np.asarray(v).astype(np.complex128 if np.iscomplexobj(v) else np.float64) for v in values]
    terms = [weight * value for value, weight in zip(wide, weights, strict=True) if weight]
    return np.sum(terms, axis=0)


def near(actual, expected, operands, updates=1):
    """Whether an average is right to 4 units in the last place for each update, at the largest operand."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    scale = max([0.0, *(float(np.max(np.abs(np.asarray(x).astype(expected.dtype)), initial=0)) for x in operands)])
    unit = np.finfo(actual.real.dtype if actual.dtype.kind == "c" else actual.dtype).eps * scale
    return actual.shape == expected.shape and bool(np.all(np.abs(actual - expected) <= 4 * updates * unit))


def apart(first, second):
    """Whether no two of these leaves share memory; those of no element have none."""
    return not any(shares_memory(a, b) for a in first.values() for b in second.values() if a.shape and b.shape)
