"""How many updates there were, and which share the next value has.

While the host knows every mask, count and weight are Python numbers, and the share is computed on the host. From the
first mask on that only a device knows, they are arrays on that device.
"""

from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from multisched.arrays import int_max
from multisched.averages.mean import Mean
from multisched.averages.statistic import counted
from multisched.runtime.protocol import Backend


class Clock(NamedTuple):
    """The count of updates and the weight accumulated: Python numbers, or 0-d arrays."""

    count: Any = 0
    weight: Any = 0.0
    on_device: "_OnDevice | None" = None
    """The compiled function that counts on the device, kept alive by the average that uses it."""

    def next(self, rule: Mean, backend: Backend, where: Any, dtype: str = "float32") -> tuple[Any, "Clock"]:
        """The share of the value of this update, and the clock after it; on a device, in a floating dtype."""
        if where is None and isinstance(self.count, int):
            share, weight = rule.share(self.count, self.weight)
            return float(share), Clock(min(self.count + 1, int_max("int32")), float(weight))
        device = backend.device_of(self.count if where is None else where)
        count, weight = _scalar(backend, self.count, "int32", device), _scalar(backend, self.weight, dtype, device)
        where = _scalar(backend, True, "bool", device) if where is None else where
        run = self.on_device or _on_device(backend, rule)
        share, count, weight = run(count, weight, where)
        return share, Clock(count, weight, run)

    def known(self, backend: Backend) -> "Clock":
        """The same clock, on the host."""
        if isinstance(self.count, int):
            return self
        return Clock(int(backend.to_numpy(self.count)), float(backend.to_numpy(self.weight)))


def _scalar(backend: Backend, value: Any, dtype: str, device: Any) -> Any:
    """A number as a 0-d array on a device, without waiting for it."""
    if backend.owns(value):
        moves = device is not None and backend.device_of(value) != device
        return backend.asarray(value, dtype, device) if moves else value
    return backend.xp.full((), value, dtype=backend.dtype(dtype), device=device)


class _OnDevice:
    """The share of an update and the clock after it, compiled for one rule."""

    def __init__(self, backend: Backend, rule: Mean):
        xp = backend.xp

        def run(count: Any, weight: Any, where: Any) -> tuple[Any, Any, Any]:
            share, after = rule.share(count, weight)
            return share, xp.where(where, counted(xp, count), count), xp.where(where, after, weight)

        self._run = backend.compile(run, 0, True)

    def __call__(self, count: Any, weight: Any, where: Any) -> Any:
        return self._run(count, weight, where)


_compiled: "WeakValueDictionary[tuple[Any, Mean], _OnDevice]" = WeakValueDictionary()
"""Averages of one rule share the compiled function, about a megabyte, which is dropped with the last of them."""


def _on_device(backend: Backend, rule: Mean) -> _OnDevice:
    found = _compiled.get((backend, rule))
    if found is None:
        _compiled[backend, rule] = found = _OnDevice(backend, rule)
    return found
