"""What every rule and every adapter must pass, and what whoever writes one runs on theirs.

`check_schedule(lr)` and `check_statistic(rule)` check a rule against the laws of `docs/design.md`:

    def test_my_schedule():
        multisched.testing.check_schedule(my_schedule(0.1, 100))

`check_backend(backend)` runs all that an adapter must pass; `CHECKS` has the checks one by one, to be run by a test for
each:

    @pytest.mark.parametrize("check", multisched.testing.CHECKS, ids=lambda check: check.__name__)
    def test_conformance(check):
        check(multisched.get_backend("mine"))
"""

from typing import Any

from multisched.runtime.registry import get_backend
from multisched.testing import blending, description, operations, running, shaping, transfer, trees, whole
from multisched.testing.law import Law
from multisched.testing.schedules import SCHEDULE_LAWS, check_schedule
from multisched.testing.statistics import STATISTIC_LAWS, check_statistic
from multisched.testing.support import Check, ConformanceError

__all__ = [
    "CHECKS",
    "SCHEDULE_LAWS",
    "STATISTIC_LAWS",
    "Check",
    "ConformanceError",
    "Law",
    "check_backend",
    "check_schedule",
    "check_statistic",
]

CHECKS: tuple[Check, ...] = (
    *description.CHECKS,
    *transfer.CHECKS,
    *operations.CHECKS,
    *shaping.CHECKS,
    *running.CHECKS,
    *blending.CHECKS,
    *trees.CHECKS,
    *whole.CHECKS,
)
"""All checks. Each takes an adapter and raises an `AssertionError` if it breaks the clause that the check names."""


def check_backend(backend: Any) -> None:
    """Check an adapter, or what `backend=` takes, against the whole contract (`multisched.runtime.protocol.Backend`).

    Raises `ConformanceError`, an exception group whose message lists every broken clause, and which holds for each an
    `AssertionError` with what was given, expected and got. What `get_backend` raises for unknown names goes through.

    >>> check_backend("numpy")

    >>> class Forgetful(type(get_backend("numpy"))):
    ...     def overwrite(self, cell, new):
    ...         pass
    >>> try:
    ...     check_backend(Forgetful())
    ... except ConformanceError as error:
    ...     print(error)
    'numpy' breaks the contract with backends:
      Backend.overwrite in overwrite_sets_the_value: Make `new` the value of a cell, for any dtype and shape, ...
    """
    adapter = get_backend(backend)
    broken = []
    for check in CHECKS:
        try:
            check(adapter)
        except AssertionError as error:
            broken.append(error)
    if broken:
        name = getattr(adapter, "name", type(adapter).__name__)
        clauses = (str(error).partition("\n")[0].partition(" breaks ")[2] for error in broken)
        raise ConformanceError("\n  ".join([f"{name!r} breaks the contract with backends:", *clauses]), broken)
