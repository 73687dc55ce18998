"""Averages held in bfloat16, which follow what a plain bfloat16 average cannot see.

A bfloat16 number has 8 significant bits. A decay of 0.9999 moves an average by a ten-thousandth of what is left of the
way, which is far below half a unit in its last place: rounded to nearest, it stays where it is. Two ways around it,
each a step `(parts, value, index, share, where, key) -> parts`, computed in float32:

- **stochastic** rounding moves to either neighbour with the probability that makes the mean right;
- **compensated**: a second bfloat16 array holds what rounding took from the first, so that 16 bits are kept, and the
  17th and all below it enter by stochastic rounding.

The random bits are a hash of seed, update and position, in int32 array API functions: the same on every backend, with
no state, so that a run repeats, and goes on after a checkpoint as if it had never stopped.
"""

import math
from dataclasses import dataclass
from operator import index as as_int
from typing import Any

from multisched.arrays import Array, choose, is_number, namespace_of
from multisched.runtime.protocol import Backend

Scalar = Any
"""A Python number, or a 0-d array."""

Parts = tuple[Array, ...]
"""The bfloat16 arrays whose sum is the average."""

# Arrays made here are written over by `+=` and the like, which saves NumPy and torch half of the time: a new array for
# each result would go through memory that is not in the cache. Immutable arrays take it as a new name.


@dataclass(frozen=True)
class Rounding:
    """How an average is held in bfloat16. Hashable: two of one kind and backend are equal.

    Raises `DTypeError` if the backend has no bfloat16.
    """

    backend: Backend
    """Whose arrays are averaged."""

    parts = 1
    """How many bfloat16 arrays hold the average."""

    def __post_init__(self) -> None:
        self.backend.dtype("bfloat16")

    def __call__(
        self, parts: Parts, value: Array, index: Array, share: Scalar, where: Scalar | None, key: Scalar
    ) -> Parts:
        r"""The parts after $m \leftarrow m + s\,(x - m)$, with $m$ their sum, in float32.

        Parameters:
            parts: the bfloat16 arrays that hold the average.
            value: $x$, an array of their shape and of any real dtype.
            index: the position of each element in the whole model, int32; two elements of one position are rounded
                by the same bits. Negative numbers are positions too: those from $2^{31}$ on, wrapped.
            share: $s$, from 0 to 1: 0 leaves the average as it is and 1 makes it the value, whatever either was, even
                NaN.
            where: None, or a bool, or an array of bools: where it is False, the average stays as it is.
            key: `update_key` of this update.
        """
        if is_number(share) and share == 0:
            return parts
        if value.ndim == 0:  # operators on 0-d arrays of NumPy would warn of the overflow that the hash lives on
            flat = (tuple(map(_flat, parts)), _flat(value), _flat(index), share, where, key)
            return tuple(namespace_of(part).reshape(part, ()) for part in self(*flat))
        return _kept(self._split(self._mean(parts, value, share), random_bits(index, key)), parts, share, where)

    def value(self, parts: Parts) -> Array:
        """The average in float32, which holds the sum of the parts exactly."""
        wide = [self._float(part) for part in parts]
        return wide[0] if len(wide) == 1 else wide[0] + wide[1]

    def _mean(self, parts: Parts, value: Array, share: Scalar) -> Array:
        xp = namespace_of(value)
        value = self._float(self.backend.stop_gradient(value))
        if is_number(share):
            return value if share == 1 else self._blended(parts, value, share)
        share = xp.astype(share, self.backend.dtype("float32"))
        return choose(xp, share == 1, value, self._blended(parts, value, share))

    def _blended(self, parts: Parts, value: Array, share: Scalar) -> Array:
        mean = self.value(parts)
        moved = value - mean
        moved *= share
        moved += mean
        return moved

    def _split(self, mean: Array, noise: Array) -> Parts:
        """A float32 array as parts."""
        raise NotImplementedError

    def _float(self, array: Array) -> Array:
        return namespace_of(array).astype(array, self.backend.dtype("float32"), copy=False)

    def _rounded(self, array: Array, added: Array | int) -> Array:
        """A float32 array whose bits that bfloat16 lacks are cut off, after `added` is added to them."""
        bits = self.backend.bitcast(array, "int32") + added
        bits &= _KEPT
        return self.backend.bitcast(bits, "float32")

    def _narrow(self, array: Array) -> Array:
        return namespace_of(array).astype(array, self.backend.dtype("bfloat16"))


class Stochastic(Rounding):
    """One bfloat16 array: each update is rounded up with the probability of its fraction of a unit, else down.

    The average is right in its mean over elements, whatever the decay; each element wanders around it by some units in
    the last place. Numbers that bfloat16 holds are kept exactly.

    >>> import numpy as np
    >>> from multisched.runtime.registry import get_backend
    >>> step = Stochastic(get_backend("numpy"))
    >>> mean, index = np.ones(10_000, step.backend.dtype("bfloat16")), np.arange(10_000, dtype=np.int32)
    >>> for count in range(100):
    ...     (mean,) = step((mean,), mean * 0 + 2, index, 0.001, None, update_key(7, count))
    >>> round(float(np.mean(step.value((mean,)))), 3), round(2 - 0.999**100, 3)
    (1.095, 1.095)
    """

    parts = 1

    def _split(self, mean: Array, noise: Array) -> Parts:
        finite = abs(mean) < math.inf  # in torch, `isfinite` takes longer
        return (self._narrow(choose(namespace_of(mean), finite, self._rounded(mean, noise), mean)),)


class Compensated(Rounding):
    """Two bfloat16 arrays: the average, rounded to nearest, and what that rounding took, rounded stochastically.

    >>> import numpy as np
    >>> from multisched.runtime.registry import get_backend
    >>> step = Compensated(get_backend("numpy"))
    >>> empty, index = np.zeros(1, step.backend.dtype("bfloat16")), np.arange(1, dtype=np.int32)
    >>> high, low = step((empty, empty), np.array([np.pi]), index, 1, None, update_key(0, 0))
    >>> float(high[0]), float(low[0]), float(step.value((high, low))[0])
    (3.140625, 0.00096893310546875, 3.1415939331054688)
    """

    parts = 2

    def _split(self, mean: Array, noise: Array) -> Parts:
        # Rounded on the bits: a compiler may drop a cast to bfloat16 and back, and with it what `low` is to hold.
        xp = namespace_of(mean)
        finite = abs(mean) < _LIMIT
        rest = choose(xp, finite, mean, xp.zeros_like(mean))
        high = self._rounded(rest, _HALF)
        rest -= high
        return self._narrow(choose(xp, finite, high, mean)), self._narrow(self._rounded(rest, noise))


_KEPT = -(1 << 16)  # the bits of a float32 number that bfloat16 keeps
_HALF = 1 << 15  # half a unit of the last of these
_LIMIT = 2.0**128 - 2.0**119  # from here on, the nearest bfloat16 number is infinity


def _flat(array: Array) -> Array:
    return namespace_of(array).reshape(array, (1,))


def _kept(new: Parts, old: Parts, share: Scalar, where: Scalar | None) -> Parts:
    """The new parts where the update counts, else the old ones."""
    if isinstance(where, bool):
        return new if where else old
    xp, conditions = namespace_of(*new), [] if where is None else [where]
    if not is_number(share):
        conditions.append(share != 0)
    for condition in conditions:
        new = tuple(choose(xp, condition, one, other) for one, other in zip(new, old, strict=True))
    return new


# --- random bits -----------------------------------------------------------------------------------------------------
_WORD = (1 << 32) - 1


def update_key(seed: int, count: Scalar) -> Scalar:
    """The key of the random bits of one update, an int32 number: another one for each count.

    Parameters:
        seed: any integer, of which the last 64 bits matter.
        count: how many updates there were before, modulo 2**32: a Python number, or an int32 array.

    >>> update_key(0, 0), update_key(0, 1), update_key(1, 0)
    (-2019655233, 1142024051, 378567559)
    """
    first, second = _seed_words(as_int(seed))
    if is_number(count):
        return _signed(_mixed((count & _WORD) ^ first) ^ second)
    flat = namespace_of(count).reshape(count, (-1,))
    key = _mixed(flat ^ _signed(first)) ^ _signed(second)
    return namespace_of(count).reshape(key, count.shape)


def random_bits(index: Array, key: Scalar) -> Array:
    """16 random bits for each element of an int32 array of positions, as an int32 array of numbers below 2**16."""
    return _shifted(_multiplied(index ^ key), 16)


def _seed_words(seed: int) -> tuple[int, int]:
    low, high = seed & _WORD, (seed >> 32) & _WORD
    first = _mixed(low ^ _mixed(high ^ 0x6A09E667))  # the roots of 2 and 3: numbers of no other meaning
    return first, _mixed(first ^ 0x3B67AE85)


def _mixed(word: Any) -> Any:
    """A one-to-one map of 32-bit words, in which each bit given flips each bit got about half of the time.

    A word is an int32 array, whose products wrap, or a Python number from 0 to 2**32 - 1.
    """
    return _shifted_into(_multiplied(word), 15)


def _multiplied(word: Any) -> Any:
    """Shift and multiply, twice, by constants from the search for 32-bit hashes of C. Wellons, `hash-prospector`."""
    for bits, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97)):
        word = _shifted_into(word, bits)
        word *= factor
        if is_number(word):
            word &= _WORD
    return word


def _shifted_into(word: Any, bits: int) -> Any:
    shifted = _shifted(word, bits)
    shifted ^= word
    return shifted


def _shifted(word: Any, bits: int) -> Any:
    """A new word, shifted to the right, with zeros coming in: int32 arrays bring in copies of their sign."""
    shifted = word >> bits
    shifted &= _WORD >> bits
    return shifted


def _signed(word: int) -> int:
    """The int32 number of the same bits."""
    return word - (1 << 32) if word >> 31 else word
