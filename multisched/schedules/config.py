"""Schedules and rules of averages as plain JSON, and back.

A rule is an object: its `name` in the catalogue, beside the arguments of the constructor. `{step: value}` is a list of
pairs, since JSON has only strings for keys; an array is a list of lists; what is None is left out, since TOML has no
such value. Nothing in a document is run or imported: a name is looked up in the catalogue, and an argument is what its
parameter takes, or an error that says where.

A composition more than 100 deep, at which JSON's own readers and those of YAML come near their limits, is a flat list:
`{"nodes": [...]}`, each an object, in which `{"node": 2}` stands for the third of the list; the last is the rule.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from multisched.arguments import Form, Reader
from multisched.arrays import FrozenArray, Symbol, as_real
from multisched.errors import ConfigError, MultischedError, RuleError, brief, listed, shown
from multisched.schedules.catalogue import DEEPEST, Constructor, by_name, described, is_rule, similar
from multisched.schedules.decay import constant
from multisched.schedules.document import MOST_SHARED, plain
from multisched.schedules.nested import walk
from multisched.schedules.piecewise import Steps
from multisched.schedules.readers import Boundaries, Schedules
from multisched.schedules.schedule import Schedule


# --- writing ---------------------------------------------------------------------------------------------------------
def to_config(rule: Any) -> dict[str, Any]:
    """A rule as plain JSON; see `Schedule.to_config`."""
    nodes = walk(rule, parts_of)
    depths: dict[int, int] = {}
    sizes: dict[int, int] = {}
    for node in nodes:
        depths[id(node)] = 1 + max((depths[id(part)] for part in parts_of(node)), default=0)
        sizes[id(node)] = 1 + sum(sizes[id(part)] for part in parts_of(node))
    if sizes[id(rule)] > MOST_SHARED + 2 * len(nodes):
        raise ConfigError(
            f"$: the {len(nodes)} schedules in it, which it uses again and again, stand for {sizes[id(rule)]:.3g}, and "
            "no document is read that stands for so many. Build it of fewer."
        )
    if depths[id(rule)] <= DEEPEST:
        return _object(rule, "$")
    numbers = {id(node): {"node": number} for number, node in enumerate(nodes)}
    return {
        "nodes": [
            _object(node, f"$.nodes[{i}]", lambda part, path: dict(numbers[id(part)])) for i, node in enumerate(nodes)
        ]
    }


def parts_of(rule: Any) -> list[Any]:
    """The rules inside of a rule, in the order of its arguments."""
    found: list[Any] = []
    for value in (described(rule) or (None, {}))[1].values():
        found += filter(is_rule, value) if isinstance(value, tuple) else [value] if is_rule(value) else []
    return found


Inside = Callable[[Any, str], dict[str, Any]]


def _object(rule: Any, path: str, inside: Inside | None = None) -> dict[str, Any]:
    """The object of a rule; `inside` writes the rules among its arguments, by default as objects, too."""
    name, arguments = described(rule) or (None, {})
    if name is None:
        own = rule.name if isinstance(rule, Schedule) else type(rule).__name__
        raise ConfigError(
            f"{path}: {own} is not in the catalogue: a function, or a rule of your own, is code and cannot be written "
            "as data. Build the rule of those of multisched.schedules and multisched.averages, and arithmetic, or "
            "register your own under the entry points multisched.schedules or multisched.statistics."
        )
    inside = inside or _object
    written = {n: _plain(v, f"{path}.{n}", inside) for n, v in arguments.items() if v is not None}
    return {"name": name, **written}


def _plain(value: Any, path: str, inside: Inside) -> Any:
    """An argument, as rules hold it, in the types of JSON."""
    if is_rule(value):
        return inside(value, path)
    if isinstance(value, Steps):
        return [[step, _plain(at, f"{path}[{i}][1]", inside)] for i, (step, at) in enumerate(value)]
    if isinstance(value, Schedules | Boundaries):
        return [_plain(item, f"{path}[{i}]", inside) for i, item in enumerate(value)]
    if isinstance(value, Symbol):
        raise ConfigError(f"{path}: a declared tensor belongs to its graph, and cannot be written as data.")
    array = value.array if isinstance(value, FrozenArray) else value
    if isinstance(value, complex) or (isinstance(value, FrozenArray) and np.iscomplexobj(array)):
        raise ConfigError(f"{path}: {brief(value)} is complex, and JSON has no such number.")
    if not (np.isfinite(array).all() if isinstance(value, FrozenArray) else _is_finite(value)):
        raise ConfigError(f"{path}: {brief(value)} is not finite, and JSON has no such number.")
    return array.tolist() if isinstance(value, FrozenArray) else value


def _is_finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


# --- reading ---------------------------------------------------------------------------------------------------------
def from_config(document: Any) -> Any:
    """The rule that a document describes: one that `rule.to_config()` has returned, or that is written by hand.

    Parameters
    ----------
    document:
        A mapping with a `name` and the arguments by their names; arguments with defaults may be left out. The name is
        that of a schedule (`"cosine"`, `"warmup"`), of arithmetic (`"add"`, `"subtract"`, `"multiply"`, `"divide"`,
        `"pow"`, `"negative"`, `"abs"`), of a schedule of a dialect (`"torch.OneCycleLR"`), or of a rule of averages
        (`"ema"`, `"paced"`).

        A schedule among the arguments is again such a mapping; a number may stand for `constant`. `{step: value}` is a
        mapping, whose keys may be strings as in JSON (`{"4": 0.5}`), or a list of pairs `[step, value]`. Arrays are
        nested sequences. Mappings and sequences of other libraries, such as OmegaConf, work too. A number must not be a
        text: YAML reads `1e-3` as a text, and `1.0e-3` as a number. For an expression such as "cosine(0.1, 1000)", use
        `ms.parse`.

        Mappings may be nested 100 deep; a deeper document is a list of nodes, as `to_config` writes it.

    Returns a `Schedule`, or a rule of averages.

    Raises `ConfigError`, which begins with the path in the document, if a name is not in the catalogue, if a field is
    missing, unknown or of the wrong type, or if the arguments define no rule. A document cannot run code, and takes
    time and memory in proportion to its length: a document that expands to far more rules than it holds, as YAML
    anchors can, raises an error.

    >>> import json
    >>> lr = from_config({"name": "linear", "init": 1.0, "end": 0.0, "steps": 4})
    >>> lr
    linear(1.0, 0.0, 4)
    >>> from_config(json.loads(json.dumps(lr.to_config()))) == lr
    True
    >>> from_config({"name": "ema", "alpha": lr.to_config()})
    ema(linear(1.0, 0.0, 4))
    >>> from_config({"name": "negative", "x": {"name": "linear", "init": 1.0, "end": "0", "steps": 4}})
    Traceback (most recent call last):
    multisched.errors.ConfigError: $.x.end: expected a number, got '0' of type str.
    """
    taken = plain(document)
    if isinstance(taken, dict) and "nodes" in taken and "name" not in taken:
        return _Reader().listed(taken)
    if as_real(taken) is not None:
        return constant(_number(taken, "$"))
    return _Reader().rule(taken, "$")


class _Reader:
    """Reads one document. An object that is used twice is read once."""

    def __init__(self) -> None:
        self.known: dict[int, Any] = {}
        self.nodes: list[Any] = []
        self.sizes: dict[int, int] = {}

    def listed(self, document: dict[Any, Any]) -> Any:
        """The last of a list of nodes."""
        if len(document) > 1:
            raise ConfigError(f"$: a list of nodes has no other field, got {listed(document)}.")
        nodes = _list(document["nodes"], "$.nodes")
        if not nodes:
            raise ConfigError("$.nodes: expected at least one rule, of which the last is what the document describes.")
        for value, path in nodes:
            rule = self.rule(value, path)
            self.nodes.append(rule)
            size = 1 + sum(self.sizes.get(id(part), 1) for part in parts_of(rule))
            self.sizes[id(rule)] = size
            if size > MOST_SHARED + 2 * len(nodes):
                raise ConfigError(f"{path}: the nodes before it are used so often that it stands for {size:.3g}.")
        return self.nodes[-1]

    def rule(self, value: Any, path: str, what: str = "a schedule or a rule") -> Any:
        """Any rule."""
        if not isinstance(value, dict):
            hint = " A text is read by multisched.parse." if isinstance(value, str) else ""
            raise ConfigError(f"{path}: expected {what}, an object with a name, got {shown(value)}.{hint}")
        if id(value) not in self.known:
            self.known[id(value)] = self.node(value, path) if value.keys() == {"node"} else self.built(value, path)
        return self.known[id(value)]

    def schedule(self, value: Any, path: str) -> Schedule:
        """A rule that is a schedule."""
        rule = self.rule(value, path, "a schedule")
        if not isinstance(rule, Schedule):
            raise ConfigError(f"{path}: expected a schedule, got {shown(rule)}.")
        return rule

    def node(self, value: dict[Any, Any], path: str) -> Any:
        """One of the nodes before."""
        number = _integer(value["node"], f"{path}.node")
        if not 0 <= number < len(self.nodes):
            raise ConfigError(f"{path}.node: {shown(number)} is none of the {len(self.nodes)} nodes before this one.")
        return self.nodes[number]

    def built(self, value: dict[Any, Any], path: str) -> Any:
        if "name" not in value:
            raise ConfigError(f"{path}.name: missing; it says which schedule or rule this is, such as 'linear'.")
        constructor = _constructor(value["name"], f"{path}.name")
        parameters = inspect.signature(constructor).parameters
        for field in value:
            if field != "name" and field not in parameters:
                raise ConfigError(
                    f"{path}.{str(field)[:100]}: {value['name']} has no such field; it has {', '.join(parameters)}."
                )
        for name, parameter in parameters.items():
            if name not in value and parameter.default is inspect.Parameter.empty:
                raise ConfigError(f"{path}.{name}: missing; {value['name']} needs it.")
        readers: Mapping[str, Reader] = constructor.readers  # type: ignore[attr-defined]  # the decorator sets it
        given = {n: self.argument(readers.get(n, _ANY), value[n], f"{path}.{n}") for n in parameters if n in value}
        try:
            return constructor(**given)
        except (MultischedError, RecursionError) as cause:  # averages in averages in averages
            raise ConfigError(f"{path}: {cause}") from cause

    def argument(self, read: Reader, value: Any, path: str) -> Any:
        """An argument, in the form that its reader has in data."""
        if value is None and read.optional:
            return None
        if read.form == "operand":
            return self.rule(value, path) if isinstance(value, dict) else _array(value, path)
        if read.form == "rule":
            return self.rule(value, path)
        if read.form == "schedule":
            return self.schedule(value, path)
        if read.form == "schedules":
            return [self.schedule(*item) for item in _list(value, path)]
        return _FORMS[read.form](value, path)


def _constructor(name: Any, path: str) -> Constructor:
    try:
        constructor = by_name(name) if isinstance(name, str) else None
    except KeyError:
        constructor = None
    except RuleError as cause:  # of a package that cannot be imported
        raise ConfigError(f"{path}: {cause}") from cause
    if constructor is None:
        raise ConfigError(f"{path}: no schedule or rule is called {shown(name)}.{similar(name)}")
    if not hasattr(constructor, "readers"):
        raise ConfigError(
            f"{path}: {name} builds a schedule of others, and is not data itself. Write what "
            f'multisched.parse("{name}(...)").to_config() gives.'
        )
    return constructor


def _number_in_text(value: Any) -> str:
    """What to write instead of 1e-3, which YAML 1.1 reads as text: it wants a point, and a sign in the exponent."""
    try:
        number = float(value) if isinstance(value, str) and len(value) < 40 and "e" in value.lower() else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        return ""
    digits, _, exponent = value.strip().lower().partition("e")
    written = f"{digits if '.' in digits else digits + '.0'}e{exponent if exponent[:1] in '+-' else '+' + exponent}"
    return f" YAML reads {value.strip()} as text: write {written} there."


def _number(value: Any, path: str) -> Any:
    number = as_real(value)
    if number is None:
        raise ConfigError(f"{path}: expected a number, got {shown(value)}.{_number_in_text(value)}")
    try:
        finite = math.isfinite(number)
    except OverflowError:
        finite = False
    if not finite:
        raise ConfigError(f"{path}: expected a finite number, of at most 1.8e308.")
    return number


def _integer(value: Any, path: str) -> Any:
    if type(as_real(value)) is not int:
        raise ConfigError(f"{path}: expected an integer, got {shown(value)}.")
    return _number(value, path)


def _list(value: Any, path: str) -> list[tuple[Any, str]]:
    """The items of a list, with their paths."""
    if not isinstance(value, list):
        raise ConfigError(f"{path}: expected a list, got {shown(value)}.")
    return [(item, f"{path}[{i}]") for i, item in enumerate(value)]


def _array(value: Any, path: str) -> Any:
    if isinstance(value, list):
        return [_array(*item) for item in _list(value, path)]
    return _number(value, path)


def _steps(value: Any, path: str) -> dict[Any, Any]:
    """`{step: value}` from a mapping, whose keys the constructor looks at, or from a list of pairs."""
    if isinstance(value, dict):
        return {key: _array(item, f"{path}.{str(key)[:100]}") for key, item in value.items()}
    steps: dict[int, Any] = {}
    for pair, at in _list(value, path):
        if len(_list(pair, at)) != 2:
            raise ConfigError(f"{at}: expected a pair [step, value], got {shown(pair)}.")
        step = _integer(pair[0], f"{at}[0]")
        if step in steps:
            raise ConfigError(f"{at}[0]: step {step} is there twice.")
        steps[step] = _array(pair[1], f"{at}[1]")
    return steps


def _of(kind: type, what: str) -> Callable[[Any, str], Any]:
    def read(value: Any, path: str) -> Any:
        if not isinstance(value, kind):
            raise ConfigError(f"{path}: expected {what}, got {shown(value)}.")
        return value

    return read


_ANY = Reader("operand", lambda value, name: value)  # of a parameter without a reader
_FORMS: Mapping[Form, Callable[[Any, str], Any]] = {
    "number": _number,
    "integer": _integer,
    "flag": _of(bool, "true or false"),
    "text": _of(str, "a string"),
    "array": _array,
    "steps": _steps,
    "integers": lambda value, path: [_integer(*item) for item in _list(value, path)],
    "any": lambda value, path: value,
}
