"""The public names, for type checkers: at run time each is imported when it is first used; see `__init__.py`."""

from multisched import errors as errors
from multisched.averages import (
    EmaState as EmaState,
)
from multisched.averages import (
    PacedState as PacedState,
)
from multisched.averages import (
    PlateauState as PlateauState,
)
from multisched.averages import (
    PowerEmaState as PowerEmaState,
)
from multisched.averages import (
    SmaState as SmaState,
)
from multisched.averages import (
    Statistic as Statistic,
)
from multisched.averages import (
    SwaState as SwaState,
)
from multisched.averages import (
    ema as ema,
)
from multisched.averages import (
    paced as paced,
)
from multisched.averages import (
    plateau as plateau,
)
from multisched.averages import (
    power_ema as power_ema,
)
from multisched.averages import (
    sma as sma,
)
from multisched.averages import (
    swa as swa,
)
from multisched.frontend.checkpoint import (
    load_variables as load_variables,
)
from multisched.frontend.checkpoint import (
    save_variables as save_variables,
)
from multisched.frontend.declare import (
    Declared as Declared,
)
from multisched.frontend.declare import (
    ExponentialMovingAverage as ExponentialMovingAverage,
)
from multisched.frontend.declare import (
    PiecewiseConstant as PiecewiseConstant,
)
from multisched.frontend.declare import (
    SimpleMovingAverage as SimpleMovingAverage,
)
from multisched.frontend.declare import (
    declare as declare,
)
from multisched.frontend.function import (
    Function as Function,
)
from multisched.frontend.function import (
    function as function,
)
from multisched.frontend.updates import (
    add_updates as add_updates,
)
from multisched.frontend.updates import (
    get_ops as get_ops,
)
from multisched.frontend.updates import (
    get_placeholders as get_placeholders,
)
from multisched.frontend.updates import (
    get_updates as get_updates,
)
from multisched.frontend.updates import (
    get_variables as get_variables,
)
from multisched.frontend.updates import (
    reset_variables as reset_variables,
)
from multisched.frontend.variables import (
    Placeholder as Placeholder,
)
from multisched.frontend.variables import (
    Variable as Variable,
)
from multisched.graph.scope import (
    Graph as Graph,
)
from multisched.graph.scope import (
    Scope as Scope,
)
from multisched.graph.scope import (
    current_graph as current_graph,
)
from multisched.graph.scope import (
    current_scope as current_scope,
)
from multisched.graph.tensor import (
    Tensor as Tensor,
)
from multisched.integrations.attach import (
    Attachment as Attachment,
)
from multisched.integrations.drive import (
    drive as drive,
)
from multisched.integrations.driving.settings import (
    relative as relative,
)
from multisched.integrations.optax import (
    as_optax as as_optax,
)
from multisched.integrations.optax import (
    average_of as average_of,
)
from multisched.runtime.registry import (
    available_backends as available_backends,
)
from multisched.runtime.registry import (
    get_backend as get_backend,
)
from multisched.runtime.registry import (
    use_backend as use_backend,
)
from multisched.schedules import (
    Schedule as Schedule,
)
from multisched.schedules import (
    clip as clip,
)
from multisched.schedules import (
    constant as constant,
)
from multisched.schedules import (
    cosine as cosine,
)
from multisched.schedules import (
    cosine_restarts as cosine_restarts,
)
from multisched.schedules import (
    cyclic as cyclic,
)
from multisched.schedules import (
    decay_warmup as decay_warmup,
)
from multisched.schedules import (
    delay as delay,
)
from multisched.schedules import (
    exponential as exponential,
)
from multisched.schedules import (
    from_config as from_config,
)
from multisched.schedules import (
    from_function as from_function,
)
from multisched.schedules import (
    inverse_sqrt as inverse_sqrt,
)
from multisched.schedules import (
    inverse_time as inverse_time,
)
from multisched.schedules import (
    join as join,
)
from multisched.schedules import (
    linear as linear,
)
from multisched.schedules import (
    maximum as maximum,
)
from multisched.schedules import (
    minimum as minimum,
)
from multisched.schedules import (
    noam as noam,
)
from multisched.schedules import (
    one_cycle as one_cycle,
)
from multisched.schedules import (
    parse as parse,
)
from multisched.schedules import (
    piecewise_constant as piecewise_constant,
)
from multisched.schedules import (
    piecewise_interpolate as piecewise_interpolate,
)
from multisched.schedules import (
    piecewise_scale as piecewise_scale,
)
from multisched.schedules import (
    polynomial as polynomial,
)
from multisched.schedules import (
    repeat as repeat,
)
from multisched.schedules import (
    schedule as schedule,
)
from multisched.schedules import (
    stretch as stretch,
)
from multisched.schedules import (
    tanh as tanh,
)
from multisched.schedules import (
    warmup as warmup,
)
from multisched.schedules import (
    warmup_stable_decay as warmup_stable_decay,
)
from multisched.trees import (
    Average as Average,
)
from multisched.trees import (
    Snapshot as Snapshot,
)
from multisched.trees import (
    load as load,
)
from multisched.trees import (
    posthoc as posthoc,
)
from multisched.trees import (
    posthoc_weights as posthoc_weights,
)
from multisched.trees import (
    save as save,
)

__version__: str
__all__: list[str]
