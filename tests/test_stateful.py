"""Declarations, calls, resets, saves, loads and updates in any order, against plain Python floats."""

import copy
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from helpers import make
from helpers_stateful import Clock, Ema, Plain, Sma, Thing
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import multisched as ms

eighths = st.integers(-64, 64).map(lambda n: n / 8)
options = st.fixed_dictionaries(
    {
        "alpha": st.sampled_from([0.0, 0.5, 0.9, 0.999, 1.0]),
        "init": st.none() | eighths,
        "decay_min": st.booleans(),
        "debias": st.booleans(),
    }
)
models = st.one_of(
    eighths.map(Plain),
    st.builds(Clock, eighths, st.dictionaries(st.integers(0, 6), eighths, max_size=3)),
    options.map(Ema),
    st.integers(1, 4).map(Sma),
)


class Machine(RuleBasedStateMachine):
    """One graph on one backend; subclasses say which."""

    backend: str

    def __init__(self):
        super().__init__()
        self.graph = ms.Graph("machine")
        self.graph.__enter__()
        self.folder = tempfile.mkdtemp()
        self.file = str(Path(self.folder) / "saved.safetensors")
        self.things, self.functions, self.saved = [], [], None

    def teardown(self):
        self.graph.__exit__(None, None, None)
        shutil.rmtree(self.folder)

    @initialize(first=st.lists(models, min_size=1, max_size=3), jit=st.booleans())
    def start(self, first, jit):
        """Some declarations, and a function of all of them."""
        self.x = ms.Placeholder((), name="x")
        for model in first:
            self.things.append(Thing(copy.deepcopy(model), *model.declare(self.x)))
        f = ms.function(self.x, outputs=[t.tensors for t in self.things], updates=ms.get_updates(), jit=jit)
        self.functions.append((f, list(self.things), list(self.things)))

    # --- declarations
    @precondition(lambda self: len(self.things) < 6)
    @rule(model=models)
    def declare(self, model):
        self.things.append(Thing(copy.deepcopy(model), *model.declare(self.x)))

    @precondition(lambda self: len(self.functions) < 4)
    @rule(data=st.data(), jit=st.booleans())
    def build(self, data, jit):
        """A function of some outputs, in any order, and of some updates, or of none."""
        shown = data.draw(st.lists(st.sampled_from(self.things), unique_by=id), "outputs")
        updated = data.draw(st.lists(st.sampled_from(self.things), unique_by=id), "updated")
        updates = ms.get_updates(variables=[v for thing in updated for v in thing.variables])
        f = ms.function(self.x, outputs=[thing.tensors for thing in shown], updates=updates or None, jit=jit)
        self.functions.append((f, shown, updated))

    # --- calls
    def check(self, outputs, shown, x):
        assert len(outputs) == len(shown)
        for values, thing in zip(outputs, shown, strict=True):
            arrays = [ms.get_backend(self.backend).to_numpy(v) if not isinstance(v, np.ndarray) else v for v in values]
            assert thing.model.fits(arrays, x), (thing, arrays, x)

    @rule(data=st.data(), xs=st.lists(eighths, min_size=1, max_size=8), device_get=st.booleans(), own=st.booleans())
    def call(self, data, xs, device_get, own):
        """Outputs are of the state before the call; exactly the updates that were passed are applied."""
        f, shown, updated = data.draw(st.sampled_from(self.functions), "function")
        for x in xs:
            outputs = f(make(x, self.backend) if own else x, device_get=device_get)
            self.check(outputs, shown, x)
            for thing in updated:
                thing.model.step(x)

    @rule(data=st.data(), x=eighths, keep=st.booleans())
    def call_purely(self, data, x, keep):
        """A pure call changes nothing, until its state is assigned."""
        f, shown, updated = data.draw(st.sampled_from(self.functions), "function")
        outputs, state = f.pure(f.state, x)
        self.check(outputs, shown, x)
        if keep:
            f.state = state
            for thing in updated:
                thing.model.step(x)

    @precondition(lambda self: any(isinstance(t.model, Clock) for t in self.things))
    @rule(data=st.data(), move=st.booleans())
    def read_a_schedule(self, data, move):
        """`value` advances nothing, `advance` the schedule alone."""
        thing = data.draw(st.sampled_from([t for t in self.things if isinstance(t.model, Clock)]), "schedule")
        (lr,) = thing.tensors
        self.check([(lr.advance() if move else lr.value,)], [thing], 0.0)
        if move:
            thing.model.step(0.0)

    @rule(data=st.data(), wrong=st.sampled_from([[1.0, 2.0], "one", None, 1j]))
    def call_wrongly(self, data, wrong):
        """A call with a bad input raises, and the invariant says that nothing has changed."""
        f, _, _ = data.draw(st.sampled_from(self.functions), "function")
        with pytest.raises((ms.errors.InputShapeError, ms.errors.InputTypeError)):
            f(wrong)

    # --- writing by hand
    @rule(data=st.data(), number=eighths, count=st.integers(0, 8) | st.sampled_from([2**31 - 2, 2**31 - 1]))
    def update(self, data, number, count):
        """Variables of the user's and counters of schedules can be set."""
        kinds = (Plain, Clock)
        things = [t for t in self.things if isinstance(t.model, kinds)]
        if not things:
            return
        thing = data.draw(st.sampled_from(things), "thing")
        if isinstance(thing.model, Plain):
            thing.variables[0].update(number)
            thing.model.value = number
        else:
            thing.tensors[0].counter.update(count)
            thing.model.count = count

    @rule(data=st.data())
    def reset_one(self, data):
        """The variables of one declaration go back to their first values."""
        thing = data.draw(st.sampled_from(self.things), "thing")
        for variable in thing.variables:
            ms.reset_variables(variable.name, variable.scope)
        thing.model.reset()

    @rule(kind=st.sampled_from([Plain, Clock, Ema, Sma, None]))
    def reset_many(self, kind):
        """A glob resets all declarations of a kind, or all."""
        scopes = {Plain: "/", Clock: "/Piecewise*", Ema: "/Exponential*", Sma: "/SimpleMovingAverage*", None: "*"}
        ms.reset_variables(scope=scopes[kind])
        for thing in self.things:
            if kind is None or isinstance(thing.model, kind):
                thing.model.reset()

    # --- files
    @rule()
    def save(self):
        ms.save_variables(self.file)
        self.saved = [copy.deepcopy(thing.model) for thing in self.things]

    @precondition(lambda self: self.saved is not None)
    @rule()
    def load(self):
        """Brings all back; a file from before a declaration is an error that changes nothing."""
        if len(self.saved) < len(self.things):
            with pytest.raises(ms.errors.CheckpointMismatch):
                ms.load_variables(self.file)
            return
        ms.load_variables(self.file)
        for thing, model in zip(self.things, self.saved, strict=True):
            thing.model = copy.deepcopy(model)

    # --- always
    @invariant()
    def every_variable_is_as_the_model_has_it(self):
        assert ms.get_variables() == [v for thing in self.things for v in thing.variables]
        for thing in self.things:
            assert thing.model.agrees(thing.held(self.backend)), (thing, thing.held(self.backend))


def test_any_order_of_operations(backend):
    """Whatever is declared, called, set, reset, saved and loaded, in whatever order, values are the model's."""
    machine = type(f"Machine_{backend}", (Machine,), {"backend": backend})
    run_state_machine_as_test(machine, settings=settings(stateful_step_count=20))
