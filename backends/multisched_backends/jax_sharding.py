"""JAX's arrays over several devices: which may be arguments of one call, and where their elements are."""

from collections.abc import Callable, Hashable
from functools import partial
from itertools import chain, repeat, starmap
from operator import setitem
from typing import Any

import jax
import jax.numpy as xp
from jax.sharding import NamedSharding, PartitionSpec

from multisched.runtime.protocol import Part, Write, exhaust
from multisched_backends.array_api import wrapped


def placed(array: Any) -> Any:
    """How an array is laid out over devices: equal for equal layouts."""
    sharding = array.sharding
    if not isinstance(sharding, NamedSharding):
        return sharding
    spec = (*sharding.spec, *[None] * array.ndim)[: array.ndim]
    return sharding.update(spec=PartitionSpec(*spec))  # type: ignore[no-untyped-call]  # JAX's own


def place(array: Any) -> Hashable:
    """The devices of an array. JAX takes arrays of one place in a call; others it refuses, or spreads to where they are
    not, if it has never been said where these are to be.
    """
    sharding = array.sharding
    return sharding.mesh if isinstance(sharding, NamedSharding) else frozenset(sharding.device_set)


def part_of(array: Any) -> Part | None:
    """What is known of an array over several processes; a copy that each of them holds is whole."""
    if getattr(array, "is_fully_addressable", True) or array.is_fully_replicated:
        return None
    return Part("an array over several processes", "Save avg.state_dict() with Orbax, on all of them.")


def by_place(run: Callable[..., list[Any]], old: list[Any], new: list[Any], *scalars: Any) -> list[Write]:
    """What puts `run(old, new, *scalars)` into `old`, for the arrays of each place by themselves.

    Each is one call of a C function, once `run` is compiled: `run` may be donated the arrays that it replaces.
    """
    numbers: dict[Hashable, list[int]] = {}
    one = {_first(array).sharding for array in old}
    for i, array in enumerate(old if len(one) > 1 else old[:1]):
        numbers.setdefault(place(_first(array)), []).append(i)
    if len(numbers) <= 1:
        result = starmap(run, [(list(old), list(new), *_moved(scalars, old))])
        return [partial(exhaust, map(partial(setitem, old, slice(None)), result))]
    writes: list[Write] = []
    for those in numbers.values():
        here = [old[i] for i in those]
        result = starmap(run, [(here, [new[i] for i in those], *_moved(scalars, here))])
        writes.append(partial(exhaust, map(setitem, repeat(old), those, chain.from_iterable(result))))
    return writes


def _first(array: Any) -> Any:
    return array[0] if isinstance(array, tuple) else array


def _moved(scalars: tuple[Any, ...], old: list[Any]) -> list[Any]:
    """Scalars where the arrays are; nothing waits for them."""
    if not old or not any(isinstance(scalar, jax.Array) for scalar in scalars):
        return list(scalars)
    there = _first(old[0]).sharding
    if isinstance(there, NamedSharding):
        there = there.update(spec=PartitionSpec())  # type: ignore[no-untyped-call]  # JAX's own
    elif len(there.device_set) > 1:
        return list(scalars)
    return [jax.device_put(scalar, there) if isinstance(scalar, jax.Array) else scalar for scalar in scalars]


def positions(array: Any) -> Any:
    """The position of each element of an array, int32, sharded as the array is."""
    sharding = jax.typeof(array).sharding
    found, stride = xp.zeros_like(array, dtype=xp.int32), 1
    for axis in reversed(range(array.ndim)):
        along = jax.lax.broadcasted_iota(xp.int32, array.shape, axis, out_sharding=sharding)
        found += along * wrapped(stride)
        stride *= array.shape[axis]
    return found
