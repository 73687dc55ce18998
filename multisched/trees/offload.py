"""A model on its way to the host, where its average lies: an update begins the copy, and what comes next blends it."""

from functools import partial
from typing import Any

from multisched.runtime.protocol import Backend, Write


class Offload:
    """The copies that one update has begun: of the leaves that are averaged, and of those that are copied."""

    def __init__(self, backend: Backend):
        self._averaged, self._copied = backend.stage(), backend.stage()
        self._pending: tuple[bool, Any, Any, Any] | None = None
        """Whether there are leaves to average; the share, mask and key of the update that sent them."""

    def brought(self, arrays: list[Any]) -> list[Any]:
        """Arrays on the host, at once."""
        self._averaged.put(arrays)
        return self._averaged.take()

    def sending(self, averaged: list[Any] | None, copied: list[Any], share: Any, where: Any, key: Any) -> Write:
        """Begin to copy leaves, and do not wait; the write notes with what they will be blended in."""
        if averaged is not None:
            self._averaged.put(averaged)
        self._copied.put(copied)
        return partial(setattr, self, "_pending", (averaged is not None, share, where, key))

    def arrived(self) -> tuple[list[Any], list[Any], Any, Any, Any] | None:
        """What was sent, once it is there: leaves to average and to copy, share, mask and key; None if nothing was."""
        if self._pending is None:
            return None
        has_averaged, *scalars = self._pending
        share, where, key = map(self._averaged.moved, scalars)
        copied = self._copied.take()
        return self._averaged.take() if has_averaged else [], copied, share, where, key

    def forgetting(self) -> Write:
        """The write that drops what was sent."""
        return partial(setattr, self, "_pending", None)
