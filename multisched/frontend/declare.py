"""Declares rules: runs a rule on tensors and variables, and records what it computes as their updates."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, overload

from multisched.arrays import Array, averaging_dtype, checked_dtype, is_symbolic, kind_of
from multisched.averages import Ema, Statistic, ema, sma
from multisched.averages.statistic import checked_mask, counted
from multisched.errors import BackendMismatch, ConcreteValueError, NotARule, ScheduleStepError, shown
from multisched.frontend.function import Function, function
from multisched.frontend.updates import add_updates
from multisched.frontend.variables import Variable
from multisched.graph.program import if_given, ordered
from multisched.graph.scope import Scope, current_graph, current_names
from multisched.graph.tensor import Constant, Op, Tensor
from multisched.runtime.locks import StateLock
from multisched.runtime.registry import BackendLike, get_backend
from multisched.schedules import Schedule, piecewise_constant

__all__ = ["Declared", "ExponentialMovingAverage", "PiecewiseConstant", "SimpleMovingAverage", "declare"]

_CONCRETE = """\
A declared average needs a value that can change, got {value!r}, which never does. Use
for an input of each call      ms.Placeholder(shape), given to ms.function
for something that is updated  ms.Variable(init)
in a loop of your own          the rule itself:  state, average = rule.step(state, value)
for the weights of a model     ms.Average(model, rule)"""


class Declared(Op):
    """A tensor that is the result of a declared rule. It can also be read and advanced by itself."""

    __slots__ = ("_functions", "rule", "variables")
    rule: Schedule | Statistic
    variables: tuple[Variable, ...]
    """The variables of the rule: a counter, or the state of a statistic."""

    def __init__(self, tensor: Tensor, rule: Schedule | Statistic, variables: tuple[Variable, ...]):
        super().__init__("identity", (tensor,), {}, tensor.shape, tensor.dtype, tensor.xp)
        self.rule, self.variables = rule, variables
        self._functions: dict[bool, Function] = {}

    @property
    def counter(self) -> Variable:
        """The number of updates so far: the variable named "step" of a schedule."""
        if not isinstance(self.rule, Schedule):
            raise AttributeError(f"{self.rule!r} is not a schedule and has no counter.")
        return self.variables[0]

    @property
    def value(self) -> Array:
        """The current value; nothing advances. Raises `MissingInput` if it depends on a placeholder."""
        return self._function(advance=False)()

    def advance(self) -> Array:
        """Return the value for this update, then apply the update of this rule, and of no other."""
        return self._function(advance=True)()

    def _function(self, *, advance: bool) -> Function:
        if advance not in self._functions:
            updates = {v: v.recorded for v in self.variables} if advance else None
            self._functions[advance] = function(outputs=self, updates=updates)
        return self._functions[advance]


@overload
def declare(
    rule: Schedule,
    *,
    where: Any = None,
    name: str | None = None,
    dtype: Any = None,
    backend: BackendLike = None,
    device: Any = None,
) -> Declared: ...


@overload
def declare(
    rule: Statistic,
    value: Tensor,
    *,
    where: Any = None,
    name: str | None = None,
    dtype: Any = None,
    backend: BackendLike = None,
    device: Any = None,
) -> tuple[Declared, Declared]: ...


def declare(
    rule: Schedule | Statistic,
    value: Tensor | None = None,
    *,
    where: Any = None,
    name: str | None = None,
    dtype: Any = None,
    backend: BackendLike = None,
    device: Any = None,
) -> Declared | tuple[Declared, Declared]:
    """Declare the variables of a rule, record their updates, and return the results of the rule as tensors.

    Parameters
    ----------
    rule:
        A `Schedule`, which depends on a counter of its own, or a `Statistic`, which depends on `value`.
    value:
        The tensor that a statistic follows: a placeholder, a variable, or an expression of them.
    where:
        A boolean scalar, declared or not. An update in which it is false leaves the average or the counter as it was.
    name:
        The name of the scope that holds the variables. Default: the name of the rule in capitals, "PiecewiseConstant".
    dtype:
        The dtype of the result. Default: float32 for a schedule, the dtype of `value` for a statistic. The state is
        held in at least float32.
    backend, device:
        The backend and the device of a schedule. A statistic lives where its value does.

    Returns
    -------
    A tensor for a schedule. For a statistic `(latest, fixed)`: the average with the value of this update, and the
    average before it. In a function that is not given the placeholders of `value`, `fixed` is NaN before the first
    update.

    There is no `dt`, as `rule.step` has it. For values at uneven times declare the decay:
    `ms.ExponentialMovingAverage(value, 2 ** (-dt / halflife))`, with a placeholder `dt`.

    Raises
    ------
    NotARule, ConcreteValueError, BackendMismatch, InitShapeError

    >>> import multisched as ms
    >>> lr = ms.declare(ms.piecewise_constant(0.1, {2: 1}), name="lr", backend="numpy")
    >>> [float(lr.advance()) for _ in range(4)]
    [0.10000000149011612, 0.10000000149011612, 1.0, 1.0]
    >>> lr.counter.value
    array(4, dtype=int32)
    """
    dtype = None if dtype is None else checked_dtype(dtype)
    if isinstance(rule, Schedule):
        if value is not None:
            raise NotARule(f"{rule!r} is a schedule and depends on no value, got {value!r}.")
        return _declare_schedule(rule, where, name or _title(rule.name.rpartition(".")[2]), dtype, backend, device)
    if isinstance(rule, Statistic):
        return _declare_statistic(rule, value, where, name or rule.title, dtype, backend, device)
    raise NotARule(f"A rule must be a schedule or a statistic, such as ms.ema(0.9), got {shown(rule)}.")


def _title(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


@contextmanager
def _scope_of(name: str) -> Iterator[None]:
    """The scope of one declaration. If the declaration fails, its name becomes free again."""
    current_graph().begin_declaration()
    names, before = current_names(), current_names().count(name)
    with Scope(name):
        since = names.count(name)
        try:
            yield
        except BaseException:
            names.give_back(name, before, since)
            raise


def _declare_schedule(rule: Schedule, where: Any, name: str, dtype: str | None, backend: Any, device: Any) -> Declared:
    if dtype is not None and kind_of(dtype) != "float":
        raise ScheduleStepError(f"The values of a schedule are real numbers: dtype must be floating, got {dtype}.")
    with _scope_of(name):
        step = Variable(0, name="step", trainable=False, dtype="int32", backend=backend, device=device)
        xp = step.__array_namespace__()
        after = counted(xp, step)
        if where is not None:
            after = xp.where(checked_mask(where), after, step)
        add_updates({step: after})
        wide = dtype is not None and averaging_dtype(dtype) != "float32"
        result = rule(xp.astype(step, dtype) if wide else step)
        declared = Declared(result if dtype is None else xp.astype(result, dtype), rule, (step,))
        current_graph().end_declaration([declared], [step])
        return declared


def _declare_statistic(
    rule: Statistic, value: Any, where: Any, name: str, dtype: str | None, backend: Any, device: Any
) -> tuple[Declared, Declared]:
    if not is_symbolic(value):
        raise ConcreteValueError(_CONCRETE.format(value=value))
    if backend is not None and get_backend(backend) is not value.backend:
        raise BackendMismatch(
            f"The average of {value} lives on the backend of the value, {value.backend.name!r}; got {backend!r}."
        )
    xp = value.__array_namespace__()
    with _scope_of(name):
        value = value if dtype is None else xp.astype(value, dtype)
        device = _device_of(value) if device is None else device
        state = _declared_state(rule, rule.init(value), device)
        new, latest = rule.step(state, value, where=where)
        variables = tuple(v for v in state if isinstance(v, Variable))
        add_updates({v: part for v, part in zip(state, new, strict=True) if isinstance(v, Variable)})
        averaged = value.dtype if kind_of(value.dtype) in ("float", "complex") else averaging_dtype(value.dtype)
        fixed = if_given(rule.read(state, value), rule.read(state, xp.full_like(value, xp.nan, dtype=averaged)))
        both = Declared(latest, rule, variables), Declared(fixed, rule, variables)
        current_graph().end_declaration(both, variables)
        return both


def _declared_state(rule: Statistic, initial: Any, device: Any) -> Any:
    """The state of a rule, with a variable in place of each array. The variables share one lock."""
    lock = StateLock()
    parts = [
        Variable._of_rule(part, rule.labels.get(field, field), device, lock) if isinstance(part, Constant) else part
        for field, part in zip(initial._fields, initial, strict=True)
    ]
    return type(initial)(*parts)


def _device_of(value: Tensor) -> Any:
    """The device of the variables that a tensor depends on."""
    held = (t for t in ordered([value]) if isinstance(t, Variable))
    return next((v.backend.device_of(v.cell.array) for v in held), None)


def PiecewiseConstant(
    init: Any,
    steps_and_values: Any,
    *,
    where: Any = None,
    dtype: Any = None,
    backend: BackendLike = None,
    device: Any = None,
) -> Declared:
    """A declared `piecewise_constant`: a tensor with a counter of its own, named "step".

    Its value is `init` before the first key, and from each key on the value of that key. The counter counts the calls
    of functions that are built with its update. The first two arguments, and the errors that they raise, are those of
    `piecewise_constant`; `where`, `dtype`, `backend` and `device` are those of `declare`.

    Source: `symjax.nn.schedules.PiecewiseConstant`.

    >>> import multisched as ms
    >>> ms.current_graph().reset()
    >>> var = ms.PiecewiseConstant(0.1, {4: 1, 8: 2})
    >>> print(ms.get_updates())
    {Variable(name=step, shape=(), dtype=int32, trainable=False, scope=/PiecewiseConstant/): \
Op(name=add, fn=add, shape=(), dtype=int32, scope=/PiecewiseConstant/)}
    >>> f = ms.function(outputs=var, updates=ms.get_updates())
    >>> for i in range(10):
    ...     print(i, f(device_get=True))
    0 0.1
    1 0.1
    2 0.1
    3 0.1
    4 1.0
    5 1.0
    6 1.0
    7 1.0
    8 2.0
    9 2.0
    """
    rule = piecewise_constant(init, steps_and_values)
    return declare(rule, where=where, name="PiecewiseConstant", dtype=dtype, backend=backend, device=device)


def ExponentialMovingAverage(
    value: Tensor,
    alpha: Any,
    init: Any = None,
    decay_min: bool = False,
    *,
    debias: bool = False,
    where: Any = None,
    dtype: Any = None,
) -> tuple[Declared, Declared]:
    """A declared `ema` of a tensor: `(ema, fixed_ema)`, with its variables "EMA" and "first_step".

    `ema` includes the latest value. `fixed_ema` is the average before it, which does not change in a function that is
    built without the updates. The arguments from `alpha` to `debias`, and the errors that they raise, are those of
    `ema`; `alpha` and `init` may also be declared tensors. `where` and `dtype` are those of `declare`. `value` must be
    a declared tensor, else `ConcreteValueError` is raised. For a half-life or a span, declare the rule:
    `ms.declare(ms.ema(halflife=100), value)`.

    Source: `symjax.nn.schedules.ExponentialMovingAverage`.

    >>> import multisched as ms
    >>> x = ms.Placeholder((), "float32", backend="numpy")
    >>> average, fixed = ms.ExponentialMovingAverage(x, 0.5)
    >>> f = ms.function(x, outputs=average, updates=ms.get_updates(variables=average.variables))
    >>> float(f(1.0)), float(f(3.0)), float(fixed.value)
    (1.0, 2.0, 2.0)
    """
    rule: Ema = ema(alpha, init, decay_min, debias)
    return declare(rule, value, where=where, name="ExponentialMovingAverage", dtype=dtype)


def SimpleMovingAverage(value: Tensor, n: int, *, where: Any = None) -> tuple[Declared, Declared]:
    """A declared `sma` of a tensor: `(average, fixed)`, the mean of the last `n` values and the mean before the latest.

    While fewer than `n` values have been seen, it is the mean of those. `n`, and the errors that it raises, is that of
    `sma`; `where` is that of `declare`. `value` must be a declared tensor, else `ConcreteValueError` is raised.

    Source: `symjax.nn.schedules.SimpleMovingAverage`.

    >>> import multisched as ms
    >>> x = ms.Placeholder((), "float32", backend="numpy")
    >>> average, fixed = ms.SimpleMovingAverage(x, 2)
    >>> f = ms.function(x, outputs=(average, fixed), updates=ms.get_updates(variables=average.variables))
    >>> [tuple(map(float, f(value))) for value in (1.0, 2.0, 4.0)]
    [(1.0, 1.0), (1.5, 1.0), (3.0, 1.5)]
    """
    return declare(sma(n), value, where=where, name="SimpleMovingAverage")
