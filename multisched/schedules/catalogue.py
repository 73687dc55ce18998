"""Every constructor that may stand in a config or an expression, by name: nothing else can be built from data.

- A schedule of the library: each function of a family file that `@schedule` made with examples.
- A rule of averages: each function of `multisched.averages` that `@statistic` made with examples.
- `torch.OneCycleLR`: a public function of a dialect, after the dialect's name, that is of its file in
  `multisched.dialects`.
- What other packages register under the entry points `multisched.schedules`, `multisched.statistics` and
  `multisched.dialects`. None of them takes the place of a name of the library.

Averages and dialects, which are built on schedules, and other packages are imported when a name is looked up there.

A function cannot be written as data, so `from_function` has no examples and is not among them.
"""

import inspect
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

from multisched.errors import RuleError
from multisched.schedules import approach, combine, compose, cycle, decay, inverse, piecewise, steps
from multisched.schedules.schedule import Schedule

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Constructor = Callable[..., Any]
"""What makes a schedule, or a rule of averages."""

FAMILIES = (decay, piecewise, steps, inverse, approach, cycle, combine, compose)
"""The files of the schedules, in the order in which the gallery shows them."""


def _constructors(module: ModuleType) -> dict[str, Constructor]:
    """The constructors of a file that have examples, by their names in data."""
    made = [f for f in vars(module).values() if getattr(f, "examples", ()) and f.__module__ == module.__name__]
    return {constructor.__name__: constructor for constructor in made}


CATALOGUE: Mapping[str, Constructor] = MappingProxyType(
    {name: made for module in FAMILIES for name, made in sorted(_constructors(module).items())}
)
"""The constructors of all schedules that are data, and of their arithmetic, by the names of the array API."""


# --- what is imported when it is looked up ---------------------------------------------------------------------------
class _Rules(Mapping[str, Constructor]):
    def __getitem__(self, name: str) -> Constructor:
        return self._all[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @property
    def _all(self) -> dict[str, Constructor]:
        averages = import_module("multisched.averages")
        public = {name: getattr(averages, name) for name in averages.__all__}
        return {name: value for name, value in public.items() if getattr(value, "examples", ())}


class _Dialects(Mapping[str, Constructor]):
    """`{"torch.OneCycleLR": constructor, ...}`. A dialect is imported when one of its names is looked up."""

    def __getitem__(self, name: str) -> Constructor:
        dialect, _, function = name.partition(".")
        if not function or dialect not in self.dialects():
            raise KeyError(name)
        return self.functions(dialect)[function]

    def __iter__(self) -> Iterator[str]:
        for dialect in self.dialects():
            try:
                functions = self.functions(dialect)
            except RuleError as error:  # of another package
                warnings.warn(str(error), stacklevel=2)
            else:
                yield from (f"{dialect}.{function}" for function in functions)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def dialects(self) -> list[str]:
        """The names of all dialects: the files of the package, and what other packages register."""
        return sorted({*_own_dialects(), *PLUGINS["dialects"].names})

    def functions(self, dialect: str) -> dict[str, Constructor]:
        """The constructors of a dialect: the public functions of its file."""
        module = import_module(f"{_PACKAGE}.{dialect}") if dialect in _own_dialects() else PLUGINS["dialects"][dialect]
        own = {name: made for name, made in vars(module).items() if inspect.isfunction(made) and name[0] != "_"}
        return {name: made for name, made in own.items() if made.__module__ == module.__name__}


_PACKAGE = "multisched.dialects"


@cache
def _own_dialects() -> tuple[str, ...]:
    names = [module.name for module in iter_modules(import_module(_PACKAGE).__path__)]
    return tuple(name for name in names if not name.startswith("_"))


class Plugins(Mapping[str, Any]):
    """What other packages register under an entry point, by name; each is imported when it is looked up."""

    def __init__(self, group: str):
        self.group = group

    @property
    def names(self) -> frozenset[str]:
        """The names, for which nothing is imported."""
        return frozenset(_entry_points(self.group))

    def __getitem__(self, name: str) -> Any:
        point = _entry_points(self.group)[name]
        package = point.dist.name if point.dist is not None else "an unknown package"
        told = f"{name!r}, which {package} registers under {self.group!r} as {point.value!r},"
        try:
            loaded = point.load()
        except Exception as cause:  # whatever a module of others raises
            raise RuleError(
                f"{told} could not be imported: {type(cause).__name__} in {_place(cause)}: {cause}"
            ) from cause
        if self.group == "multisched.dialects":
            if not isinstance(loaded, ModuleType):
                raise RuleError(f"{told} is not a module: a dialect is a module of constructors.")
        else:
            if not hasattr(loaded, "examples"):
                raise RuleError(f"{told} is not decorated: @schedule(...) or @statistic(...) makes it a constructor.")
            if loaded.__name__ != name:
                raise RuleError(f"{told} is called {loaded.__name__!r}. Register it under this name.")
        return loaded

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.names))

    def __len__(self) -> int:
        return len(self.names)


def _place(error: BaseException) -> str:
    """The file and the line that raised an error."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}:{frame.lineno}"


@cache
def _entry_points(group: str) -> "dict[str, EntryPoint]":
    from importlib.metadata import entry_points  # slow to import, and needed only for names that are not the library's

    points = {point.name: point for point in entry_points(group=group)}
    ours = _own_dialects() if group == "multisched.dialects" else (*CATALOGUE, *RULES)
    if group != "multisched.backends" and (taken := sorted(set(points) & set(ours))):
        warnings.warn(
            f"{taken[0]!r}, which another package registers under {group!r}, is a name of multisched itself, which has "
            f"precedence: {points[taken[0]].value!r} is not found by it. Rename it.",
            stacklevel=2,
        )
    return points


RULES: Mapping[str, Constructor] = _Rules()
"""The constructors of the rules of averages."""

DIALECTS = _Dialects()
"""The constructors of all dialects, by names such as `torch.OneCycleLR`."""

PLUGINS: Mapping[str, Plugins] = MappingProxyType(
    {kind: Plugins(f"multisched.{kind}") for kind in ("schedules", "statistics", "dialects")}
)
"""What other packages register, by kind."""


# --- looking up ------------------------------------------------------------------------------------------------------
def by_name(name: str) -> Constructor:
    """The constructor of that name. Raises `KeyError` if there is none, `RuleError` if its package is broken."""
    for names in (CATALOGUE, RULES, DIALECTS, PLUGINS["schedules"], PLUGINS["statistics"]):
        with suppress(KeyError):
            return names[name]
    raise KeyError(name)


def everything() -> dict[str, Constructor]:
    """Every constructor by its name in data: of the library, and of other packages.

    What cannot be imported from another package is left out, with a warning.
    """
    registered = (
        PLUGINS["statistics"],
        PLUGINS["schedules"],
        DIALECTS,
        RULES,
        CATALOGUE,
    )  # the last one has precedence
    found: dict[str, Constructor] = {}
    for names in registered:
        for name in names:
            try:
                found[name] = names[name]
            except RuleError as error:
                warnings.warn(str(error), stacklevel=2)
    return found


def similar(name: Any, *more: str) -> str:
    """A hint at the name, of all or of `more`, that is most like this one, to end an error message with."""
    if not isinstance(name, str) or len(name) > _LONGEST:
        return ""
    dialect = name.partition(".")[0]
    of_dialect = [f"{dialect}.{f}" for f in DIALECTS.functions(dialect)] if dialect in DIALECTS.dialects() else ()
    known = [*CATALOGUE, *RULES, *of_dialect, *PLUGINS["schedules"].names, *PLUGINS["statistics"].names, *more]
    near = get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


# --- what a rule is called -------------------------------------------------------------------------------------------
def is_rule(value: Any) -> bool:
    """Whether this is a schedule or a rule of averages."""
    return isinstance(value, Schedule) or hasattr(type(value), "_described")


def described(rule: Any) -> tuple[str | None, dict[str, Any]] | None:
    """The name of what builds a schedule or a rule of averages, None if it is not listed, and its arguments.

    None for what is neither, and for a rule of averages that is not listed.
    """
    if isinstance(rule, Schedule):
        return name_of(rule._formula), rule._arguments
    name, arguments = rule._described() if is_rule(rule) else (None, {})
    return (name, arguments) if name is not None and _is_listed(name) else None


def _is_listed(name: str) -> bool:
    try:
        by_name(name)
    except (KeyError, RuleError):
        return False
    return True


def name_of(formula: Callable[..., Any]) -> str | None:
    """The name of a formula in data; None for one that is not listed."""
    name = _NAMES.get(formula)
    if name is None and (formula.__name__ in PLUGINS["schedules"].names or "." in formula.__name__):
        try:
            listed = getattr(by_name(formula.__name__), "__wrapped__", None) is formula
        except (KeyError, RuleError):
            listed = False
        return formula.__name__ if listed else None
    return name


_NAMES = {constructor.__wrapped__: name for name, constructor in CATALOGUE.items()}  # type: ignore[attr-defined]  # functools sets it

_LONGEST = 100  # characters of a name for which others are compared with it

DEEPEST = 100
"""How deep schedules that are read may be nested: far deeper, and Python's own stack would end in their formulas."""
