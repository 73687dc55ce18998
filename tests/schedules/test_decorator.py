"""What the decorator of schedules refuses: as early as it can, in words that lead to the line that is wrong."""

import pickle

import pytest

import multisched as ms
from multisched import errors
from multisched.schedules.readers import inner, real


def formula(xp, step, init):
    return init + 0.0 * step


@pytest.mark.parametrize(
    ("decorate", "words"),
    [
        (lambda: ms.schedule(int=real)(formula), r"formula has no parameter 'int'.*it takes 'init'"),
        (lambda: ms.schedule(exmples=["formula(1)"])(formula), r"no parameter 'exmples'"),
        (lambda: ms.schedule(init=float)(formula), r"init=<class 'float'> of formula must be a reader"),
        (lambda: ms.schedule(init="real")(formula), r"init='real' of formula must be a reader"),
        (lambda: ms.schedule(init=real, examples="formula(1)")(formula), r"must be a list of expressions"),
        (lambda: ms.schedule(init=real, edges=["init"])(formula), r"edges must be a function"),
        (lambda: ms.schedule(formula)(0.1), r"write it with parentheses. Got 0.1"),
    ],
    ids=["a reader", "an option", "a type", "a text", "examples", "edges", "no parentheses"],
)
def test_a_wrong_decorator(decorate, words):
    """It is an error where the schedule is defined, not where it is first called."""
    with pytest.raises(errors.ArgumentError, match=words):
        decorate()


def test_a_formula_that_gives_a_schedule():
    """A combinator without a clock is given schedules, and must call them."""

    @ms.schedule(schedule=inner)
    def shifted(xp, step, schedule):
        return schedule + 1

    with pytest.raises(errors.ScheduleValueError, match=r"shifted gives a schedule instead of a value.*clock="):
        shifted(ms.linear(1.0, 0.0, 4))

    @ms.schedule(schedule=inner)
    def called(xp, step, schedule):
        return schedule(step) + 1

    assert called(ms.linear(1.0, 0.0, 4))(2) == 1.5


def test_a_schedule_of_a_function_is_not_pickled():
    """A pickle that could not be loaded again is not written; alone, and inside of others, however deep."""

    @ms.schedule(init=real)
    def local(xp, step, init):
        return init + 0.0 * step

    deep = local(0.1)
    for _ in range(60):
        deep = deep + 1
    for lr in (local(0.1), 2 * local(0.1), ms.warmup(local(0.1), 3), deep):
        with pytest.raises(errors.RuleError, match="local is defined inside a function"):
            pickle.dumps(lr)
