"""The schedules of other libraries by their own names and signatures, each a schedule of this one. A library a file.

`from multisched.dialects import torch`; none of the libraries is imported. The public functions of a file are its
constructors: `torch.StepLR` is found by its name in expressions, configs and on the command line. Another
package adds a dialect by the entry point `multisched.dialects`, which names a module of such functions.

Most constructors build schedules of the catalogue; `constructor` decorates them. A formula that only a dialect has is
decorated as any other, with `@ms.schedule(...)` and, inside of it, `of_dialect`.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, ParamSpec, TypeVar

from multisched.arguments import Reader, checked

__all__ = ["constructor", "of_dialect"]
__all__ += [module.name for module in iter_modules(__path__) if not module.name.startswith("_")]


def __getattr__(name: str) -> Any:
    """`ms.dialects.torch`: a dialect is imported when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")


P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


def constructor(*, examples: Sequence[str], **readers: Reader) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function a constructor of a dialect, which builds a schedule, or a rule fed by a metric, of others.

    Parameters
    ----------
    **readers:
        For each parameter, what it takes, as for `@ms.schedule`; the function is given what they return. Without any, a
        config cannot name the constructor.
    examples:
        Expressions that build typical schedules, with the name of the dialect: `"torch.StepLR(0.1, 40)"`. The laws are
        tested on them, and the first one stands in the gallery.

    The constructor raises `ArgumentError` for a keyword that the function does not have, and names the nearest one.

    >>> import multisched as ms
    >>> from multisched.schedules.readers import non_negative, real
    >>> @constructor(start=real, rate=non_negative, examples=["toy.hyperbola(1, 0.5)"])
    ... def hyperbola(start, rate):
    ...     return ms.inverse_time(start, rate, 1)
    >>> hyperbola(1, 0.5)(2)
    0.5
    >>> hyperbola(1, rte=0.5)
    Traceback (most recent call last):
    multisched.errors.ArgumentError: hyperbola() has no argument 'rte'; did you mean 'rate'?
    """
    return checked(examples, readers)


def of_dialect(dialect: str) -> Callable[[F], F]:
    """A decorator for a formula that only this dialect has: its schedules are printed and written with the prefix.

    It stands below `@ms.schedule(...)`: `@of_dialect("torch")` makes `OneCycleLR` print as `torch.OneCycleLR(...)`.
    """

    def rename(formula: F) -> F:
        formula.__name__ = f"{dialect}.{formula.__name__}"
        return formula

    return rename
