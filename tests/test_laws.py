"""Every rule that is listed keeps every law: of the library, of its dialects, and of packages that are installed."""

import pytest

import multisched as ms
from multisched.runtime.registry import get_backend, use_backend
from multisched.schedules.catalogue import everything
from multisched.testing import SCHEDULE_LAWS, STATISTIC_LAWS

EXAMPLES = [example for made in everything().values() for example in getattr(made, "examples", ())]
LAWS = {ms.Schedule: SCHEDULE_LAWS, ms.Statistic: STATISTIC_LAWS}


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # growth without an end, at the last step
@pytest.mark.parametrize("example", EXAMPLES)
def test_a_rule_keeps_the_laws(backend, example):
    """Each example of each constructor, by the functions that users run on rules of their own."""
    rule = ms.parse(example)
    kind = ms.Schedule if isinstance(rule, ms.Schedule) else ms.Statistic
    for law in LAWS[kind]:
        law.check(rule, get_backend(backend))


def test_every_constructor_has_an_example():
    """Each public function that makes a rule is listed, with an example, but those that take code."""
    modules = (ms.schedules, ms.averages)
    public = {name for module in modules for name in module.__all__ if name.islower()}
    listed = {name for name, made in everything().items() if getattr(made, "examples", ())}
    code = {"from_config", "from_function", "parse", "schedule", "statistic"}
    assert public - code <= listed


def test_the_numbers_of_laws_are_those_of_the_design():
    """A law has one number and one name."""
    for laws in LAWS.values():
        assert len({law.number for law in laws}) == len({law.name for law in laws}) == len(laws)
        assert all(law.says.endswith(".") for law in laws)


def test_laws_of_installed_backends():
    """Without backends named, the checks run over all that are installed."""
    from multisched.testing.law import adapters

    names = [adapter.name for adapter in adapters()]
    assert "numpy" in names
    with use_backend("numpy"):
        assert [adapter.name for adapter in adapters(["numpy"])] == ["numpy"]
