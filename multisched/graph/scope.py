"""Graphs and scopes: they name and list declared tensors.

The current graph and the current scope are context variables, so entering another graph in one thread or task does not
affect the others. A graph holds weak references to its tensors: it keeps none of them alive.
"""

import os
import threading
import weakref
from collections.abc import Sequence
from contextvars import ContextVar
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, NoReturn, Protocol, Self, TypeVar

from multisched.errors import InvalidName, TensorConversionError
from multisched.graph.held import unheld

__all__ = ["Graph", "Scope", "current_graph", "current_scope"]


class Listed(Protocol):
    """What a graph lists: a declared tensor."""

    name: str
    scope: str
    recorded: Any
    """Its recorded update, for a variable that has one; else None."""
    untaken: bool
    """Whether it is a variable whose declaration nobody took the results of; see `Graph.begin_declaration`."""


T = TypeVar("T", bound=Listed)


def checked_name(name: str) -> str:
    """The name, if paths and globs can address it."""
    if not isinstance(name, str) or not name or any(c in "/*?[]" or not c.isprintable() for c in name):
        raise InvalidName(f"A name must be a non-empty printable string without any of / * ? [ ], got {name!r}.")
    return name


class Names:
    """The names taken in one scope.

    The object lives as long as the scope can be entered, so names do not depend on when garbage is collected. It holds
    one entry per name, however often the name was asked for.
    """

    def __init__(self, path: str, parent: "Names | None" = None):
        self.path = path
        self.root: Names = self if parent is None else parent.root
        self._taken: dict[str, int] = {}

    def unique(self, name: str) -> str:
        """Take `name`, or the first of `name_1`, `name_2`, ... that is free, and return it."""
        with _lock:
            base, _, number = name.rpartition("_")
            derived = number.isdecimal() and str(int(number)) == number and self._taken.get(base, 0) > int(number)
            if name not in self._taken and not derived:
                self._taken[name] = 1
                return name
            count = self._taken.get(name, 1)
            while f"{name}_{count}" in self._taken:
                count += 1
            self._taken[name] = count + 1
            return f"{name}_{count}"

    def count(self, name: str) -> int:
        """How many names `unique` has derived from `name`: 0 if it was never asked for."""
        with _lock:
            return self._taken.get(name, 0)

    def give_back(self, name: str, before: int, since: int) -> None:
        """Free the name that the last `unique(name)` took, unless another call came since.

        `before` and `since` are the counts before and after that call.
        """
        with _lock:
            if self._taken.get(name) == since:
                self._taken[name] = before
                if not before:
                    del self._taken[name]


_lock = threading.RLock()
"""Held for short moments only, so that a fork can wait for it."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


class _Declaration(NamedTuple):
    """The latest declaration in a graph: the place of its first tensor, its results, and its variables."""

    first: int
    results: list[weakref.ref[Listed]]
    variables: list[weakref.ref[Listed]]


class Graph:
    """A collection of declared tensors. As a context manager it makes itself the current graph.

    >>> with Graph("experiment") as graph:
    ...     current_graph() is graph
    True
    """

    name: str
    root: Names
    """The names at the top level, outside of every scope."""

    def __init__(self, name: str = "Graph"):
        self.name = checked_name(name)
        self.reset()

    def reset(self) -> None:
        """Forget every declaration and every name. Tensors that are still referred to continue to work."""
        listing: weakref.WeakValueDictionary[int, Listed] = weakref.WeakValueDictionary()
        standing_in: weakref.WeakValueDictionary[int, Listed] = weakref.WeakValueDictionary()
        with _lock:
            self.root, self._serial, self._tensors, self._standing_in = Names("/"), 0, listing, standing_in
            self._latest = _Declaration(0, [], [])

    def add(self, tensor: Listed) -> int:
        """List a tensor after those listed before, and return its place among them."""
        with _lock:
            self._serial += 1
            self._tensors[self._serial] = tensor
            return self._serial

    def let_stand_in(self, serial: int, tensor: Listed, other: Listed) -> None:
        """List `other` at the place of `tensor` once nothing refers to `tensor` any more."""
        with _lock:
            if self._tensors.get(serial) is tensor:
                self._standing_in[serial] = other

    def begin_declaration(self) -> None:
        """Called before something is declared: marks the previous declaration if nobody kept its results.

        Such a declaration (`ms.ExponentialMovingAverage(x, 0.9)` as a statement of its own) can be reached through its
        updates alone. They stay listed until a function is built with them.
        """
        with _lock:
            first, results, variables = self._latest
            if results and all(result() is None for result in results):
                listed = (self._tensors.get(serial) for serial in range(first, self._serial + 1))
                dropped = unheld((tensor for tensor in listed if tensor is not None), lambda tensor: False)
                for variable in variables:
                    if (found := variable()) is not None and id(found) in dropped:
                        found.untaken = True
            self._latest = _Declaration(self._serial + 1, [], [])

    def end_declaration(self, results: Sequence[Listed], variables: Sequence[Listed]) -> None:
        """Called after something is declared, with its results and its variables."""
        with _lock:
            first = self._latest.first
            self._latest = _Declaration(first, [weakref.ref(t) for t in results], [weakref.ref(t) for t in variables])

    def find(self, kind: type[T], name: str = "*", scope: str = "*") -> list[T]:
        """The tensors of a kind whose name and scope match two globs, in the order of declaration.

        A tensor is listed as long as something refers to it: a name, a list, or another tensor.
        """
        with _lock:
            self._drop_unheld()
            held = sorted({**self._standing_in, **self._tensors}.items())
        return [
            tensor
            for _, tensor in held
            if isinstance(tensor, kind) and fnmatchcase(tensor.name, name) and fnmatchcase(tensor.scope, scope)
        ]

    def _drop_unheld(self) -> None:
        """Break the cycles of variables and updates that nothing else refers to, which frees their tensors."""
        self.begin_declaration()
        if any(tensor.recorded is not None for tensor in self._tensors.values()):
            dropped = unheld(self._tensors.values(), lambda tensor: tensor.untaken)
            for tensor in list(self._tensors.values()) if dropped else ():
                if id(tensor) in dropped and tensor.recorded is not None:
                    tensor.recorded = None

    def __reduce__(self) -> NoReturn:
        raise TensorConversionError(
            f"{self!r} lists tensors of this process and cannot be pickled or copied. Declare the tensors again in a "
            "new ms.Graph(name), and carry over their values with ms.save_variables(path) and ms.load_variables(path)."
        )

    def __enter__(self) -> Self:
        _place.set(_Place(self, None, _place.get(), self))
        return self

    def __exit__(self, *exc_info: object) -> None:
        _leave(self)

    def __repr__(self) -> str:
        return f"Graph({self.name!r})"


class _Place(NamedTuple):
    graph: Graph
    names: Names | None
    """None stands for the root of the graph, which a reset replaces."""
    outer: "_Place | None"
    """The place to return to. It is kept here because several contexts may be in one graph at the same time."""
    entered: Any
    """The graph or scope whose `with` block led here."""


_root = _Place(Graph("root"), None, None, None)
_place: ContextVar[_Place] = ContextVar("multisched_place", default=_root)


def _leave(entered: Any) -> None:
    """Return to the place before `entered`, also from blocks inside it that an interrupt left open."""
    place: _Place | None = _place.get()
    while place is not None and place.entered is not entered:
        place = place.outer
    if place is not None and place.outer is not None:
        _place.set(place.outer)


def current_graph() -> Graph:
    """The graph that new declarations go to, in this context."""
    return _place.get().graph


def current_names() -> Names:
    """The names of the scope that new declarations go to."""
    place = _place.get()
    return place.graph.root if place.names is None else place.names


def current_scope() -> str:
    """The path of the scope that new declarations go to: `"/"`, or `"/encoder/attention/"`."""
    return current_names().path


class Scope:
    """A named part of the current graph, as a context manager. Scopes nest.

    A second scope of the same name becomes another one, `name_1`. Entering the same object again continues its scope.

    >>> current_graph().reset()
    >>> encoder = Scope("encoder")
    >>> with encoder, Scope("attention"):
    ...     current_scope()
    '/encoder/attention/'
    >>> with encoder, Scope("attention"):
    ...     current_scope()
    '/encoder/attention_1/'
    """

    name: str

    def __init__(self, name: str):
        self.name = checked_name(name)
        self._names: Names | None = None

    def __enter__(self) -> Self:
        outer, graph = current_names(), current_graph()
        if self._names is None or self._names.root is not graph.root:
            self._names = Names(outer.path + outer.unique(self.name) + "/", outer)
        _place.set(_Place(graph, self._names, _place.get(), self))
        return self

    def __exit__(self, *exc_info: object) -> None:
        _leave(self)

    def __reduce__(self) -> NoReturn:
        raise TensorConversionError(
            f"{self!r} belongs to a graph of this process and cannot be pickled or copied. Make a new ms.Scope(name)."
        )

    def __repr__(self) -> str:
        return f"Scope({self.name!r})"
