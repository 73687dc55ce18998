"""Finds the adapter for `backend=`.

Adapters are found through the entry-point group `multisched.backends`, loaded on first use and kept. Any other array
API namespace, given as a module or by its import name, is served by the adapter `array_api`.
"""

import importlib
import os
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar, Token
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from multisched.arrays import Framework, namespace_of, plain_framework
from multisched.errors import BackendNotInstalled, UnknownBackend
from multisched.runtime.protocol import PROTOCOL, Backend

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["available_backends", "get_backend", "use_backend"]

BackendLike: TypeAlias = str | ModuleType | Backend | None
"""What `backend=` takes: a name, an array API namespace, an adapter, or None for the backend in use."""

GROUP = "multisched.backends"
ENVIRONMENT = "MULTISCHED_BACKEND"
_ANY_NAMESPACE = "array_api"

_loaded: dict[str, Backend] = {}
_loading = threading.RLock()
_selected: ContextVar[Any] = ContextVar("multisched_backend", default=None)


@cache
def _entry_points() -> dict[str, "EntryPoint"]:
    from importlib.metadata import entry_points  # slow to import, and needed only once a backend is

    return {point.name: point for point in entry_points(group=GROUP)}


def available_backends() -> list[str]:
    """The names of all registered backends, whether or not their frameworks are installed."""
    return sorted(name for name in _entry_points() if name != _ANY_NAMESPACE)


def get_backend(backend: BackendLike = None) -> Backend:
    """The adapter for `backend=`: a name, an array API namespace, or None for the backend in use.

    The backend in use is the one that `use_backend` chose, else the one that the environment variable
    MULTISCHED_BACKEND names, else NumPy.

    Raises `UnknownBackend` for a name that is neither registered nor an array API namespace, and for an adapter that
    was written for another version of the contract (`multisched.runtime.protocol.PROTOCOL`). Raises
    `BackendNotInstalled` if the framework is not installed.

    >>> get_backend("numpy").name
    'numpy'
    """
    if backend is None:
        backend = _selected.get() or os.environ.get(ENVIRONMENT) or "numpy"
    if isinstance(backend, str):
        name = backend
    elif isinstance(backend, ModuleType):
        name = backend.__name__
    elif hasattr(backend, "overwrite"):  # an adapter already
        return _checked_version(backend)
    else:
        raise UnknownBackend(f"{_given(backend)}. {_expected()}")
    found = _loaded.get(name)
    if found is None:
        with _loading:
            found = _loaded.get(name) or _load(backend, name)
            _loaded[name] = found
    return found


def _load(backend: Any, name: str) -> Backend:
    root = name.removeprefix("array_api_compat.").partition(".")[0]  # jax.numpy is jax's
    for registered in (name, root):
        if registered in _entry_points() and registered != _ANY_NAMESPACE:
            if registered not in _loaded:
                _loaded[registered] = _checked_version(_adapter(registered)())
            if registered != name:  # checks that it is a namespace of the framework
                _namespace_module(backend, name)
            return _loaded[registered]
    module = _namespace_module(backend, name)
    return _checked_version(_adapter(_ANY_NAMESPACE)(module))


def _adapter(name: str) -> Any:
    point = _entry_points()[name]
    try:
        return point.load()
    except ImportError as cause:
        package = point.dist.name if point.dist is not None else "multisched"
        ours = package == "multisched"
        way = f'Install it with\n    pip install "multisched[{name}]"' if ours else f"See how {package} is installed."
        raise BackendNotInstalled(
            f"The backend {name!r} needs a package that is not installed ({cause}). {way}"
        ) from cause


def _checked_version(adapter: Backend) -> Backend:
    """The adapter, if it was written for this version of the contract of backends."""
    version = getattr(adapter, "protocol", 1)
    if type(version) is not int or version != PROTOCOL:
        older = "multisched" if type(version) is int and version > PROTOCOL else "the package of the adapter"
        raise UnknownBackend(
            f"The adapter {adapter!r} was written for version {version!r} of the contract of backends, but "
            f"this multisched has version {PROTOCOL}. Update {older}."
        )
    return adapter


def _namespace_module(backend: Any, name: str) -> ModuleType:
    if isinstance(backend, ModuleType):
        module = backend
    else:
        try:
            module = importlib.import_module(name)
        except (ImportError, ValueError, TypeError) as cause:
            raise UnknownBackend(f"{_given(name)}. {_expected()}") from cause
    missing = [function for function in ("asarray", "astype", "where", "isdtype") if not hasattr(module, function)]
    if missing:
        raise UnknownBackend(
            f"The module {name!r} is not an array API namespace: it lacks {', '.join(missing)}. {_expected()}"
        )
    return module


def _given(backend: Any) -> str:
    return f"There is no backend {backend!r}"


def _expected() -> str:
    names = ", ".join(map(repr, available_backends()))
    return f"Expected one of {names}, or an array API namespace (a module or its import name)."


class use_backend:  # noqa: N801  # called like a function: ms.use_backend("torch")
    """Choose the backend of later declarations in this thread or task. Also a context manager.

    >>> with use_backend("numpy"):
    ...     get_backend().name
    'numpy'
    """

    def __init__(self, backend: BackendLike):
        self._token: Token[Any] | None = _selected.set(get_backend(backend))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._token is not None:
            _selected.reset(self._token)
            self._token = None


# --- what rules ask of the frameworks, see `multisched.arrays`
def framework_of(xp: Any) -> Framework:
    """What the framework of a namespace can do."""
    return _framework(get_backend(xp)) if isinstance(xp, ModuleType) else plain_framework(xp)


def new_frameworks() -> Iterator[tuple[type, Any, Framework]]:
    """The registered frameworks that have been imported since the last call: type of arrays, namespace, framework."""
    for name in _entry_points():
        if name in sys.modules and name not in _noticed:
            _noticed.add(name)
            try:
                backend = get_backend(name)
            except BackendNotInstalled:  # imported in part, as when its own import is under way
                _noticed.discard(name)
                continue
            array = backend.asarray(0, "int32")
            yield type(array), namespace_of(array), _framework(backend)


def _framework(backend: Backend) -> Framework:
    return Framework(backend.stop_gradient, backend.operation("where"))


_noticed: set[str] = set()
