"""The public names, for type checkers and completion: `__init__.py` imports each when it is first used."""

from multisched import dialects as dialects
from multisched import errors as errors
from multisched import integrations as integrations
from multisched import testing as testing
from multisched.averages import *
from multisched.frontend.checkpoint import *
from multisched.frontend.declare import *
from multisched.frontend.function import *
from multisched.frontend.updates import *
from multisched.frontend.variables import *
from multisched.graph.scope import *
from multisched.graph.tensor import *
from multisched.integrations.drive import *
from multisched.integrations.optax import *
from multisched.runtime.registry import *
from multisched.schedules import *
from multisched.trees import *

__version__: str
__all__: list[str]
