"""Interrupts at chosen places: an exception at each line of the library in turn, and real signals at random moments.

A test gives three functions: `make() -> scenario` builds what is used, `run(scenario)` uses it, and `check(scenario)`
asserts what must hold, wherever `run` was cut off. `check` runs with no interrupt about.
"""

import dis
import functools
import gc
import os
import random
import signal
import sys
import time
from pathlib import Path

import multisched_backends
import pytest

import multisched

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
LIBRARY = tuple(str(Path(package.__file__).parent) + os.sep for package in (multisched, multisched_backends))
GENERATED = "<multisched"


class Interrupt(KeyboardInterrupt):
    """What the helpers raise: as the library must treat a Ctrl-C."""


def injected(make, run, check, *, every=None, files=(*LIBRARY, GENERATED)):
    """Raise an `Interrupt` at one line of the library, in a new scenario for each line that `run` comes through.

    `every` leaves places out: of n lines it takes every so many, by default all in the thorough profile and about 40 in
    the others. `files` are beginnings of file names. Returns the number of interrupts.
    """
    run(make())  # imports and caches are not the subject
    places = _Places(files)
    places.trace(run, make())
    step = every or (1 if THOROUGH else max(1, places.seen // 40))
    done = 0
    for place in range(0, places.seen, step):
        scenario = make()
        if _Places(files, stop_at=place).trace(run, scenario):
            done += 1
            check(scenario)
    assert done, "no line of the library was reached"
    return done


def signals(make, run, check, *, trials=None):
    """Interrupt `run` by a real signal at a random moment, in a new scenario each time. Returns how many hit `run`."""
    if not hasattr(signal, "setitimer"):
        pytest.skip("this system has no interval timers")
    trials = trials or (1000 if THOROUGH else 50)
    run(make())
    start, scenario = time.perf_counter(), make()
    lasts = -start + (run(scenario), time.perf_counter())[1]
    chance, hits = random.Random(0), 0
    with _Timer() as timer:
        for _ in range(trials):
            scenario = make()
            hits += timer.interrupts(run, scenario, max(1e-6, chance.uniform(0, 1.5 * lasts)))
            check(scenario)
    return hits


class _Places:
    """Counts the lines of the library that a function comes through, and raises at one of them."""

    def __init__(self, files, stop_at=None):
        self.files, self.stop_at, self.seen, self.stopped = tuple(files), stop_at, 0, False

    def trace(self, run, scenario):
        """Whether `run` was stopped. What else it raises passes on."""
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            run(scenario)
        except Interrupt:
            pass
        finally:
            sys.settrace(before)
        return self.stopped

    def _enter(self, frame, event, arg):
        return self._line if frame.f_code.co_filename.startswith(self.files) else None

    def _line(self, frame, event, arg):
        if event == "line" and not self.stopped and frame.f_lasti not in _out_of_reach(frame.f_code):
            self.seen += 1
            if self.seen - 1 == self.stop_at:
                self.stopped = True
                raise Interrupt(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        return self._line


@functools.cache
def _out_of_reach(code):
    """Where a tracer sees a line, but what it raises there would not be what a signal raises.

    A `with` is left: a signal does not arrive before `__exit__` is called. And a loop goes on, in Python 3.12 and 3.13:
    these let what a tracer raises there pass by every `with` and `try` around the loop.
    """
    found, steps = set(), [step for step in dis.get_instructions(code) if step.opname != "CACHE"]
    for i, step in enumerate(steps):
        rest = [s for s in steps[i : i + 6] if s.opname not in ("SWAP", "NOP", "PRECALL", "PUSH_NULL", "NOT_TAKEN")]
        nones = len(rest) > 3 and all(s.opname.startswith("LOAD_CONST") and s.argval is None for s in rest[:3])
        normally = nones and rest[3].opname == "CALL"
        raising = step.opname == "PUSH_EXC_INFO" and len(rest) > 1 and rest[1].opname == "WITH_EXCEPT_START"
        going_on = sys.version_info >= (3, 12) and step.opname in ("JUMP_BACKWARD", "FOR_ITER")
        if normally or raising or going_on:
            found.add(step.offset)
    return found


class _Timer:
    """A handler of SIGALRM that raises while a function runs, and not after."""

    def __enter__(self):
        self.armed = False
        self.before = signal.signal(signal.SIGALRM, self._arrive)
        self.hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        self.collecting = gc.isenabled()
        gc.disable()  # callbacks of the collector, such as JAX's, swallow what is raised in them
        return self

    def __exit__(self, *exc_info):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)
        sys.unraisablehook = self.hook
        if self.collecting:
            gc.enable()

    def interrupts(self, run, scenario, delay):
        """Whether the signal came while `run` ran, and got through to us."""
        try:
            try:
                self.armed = True
                signal.setitimer(signal.ITIMER_REAL, delay)
                run(scenario)
            finally:
                self.armed = False
                signal.setitimer(signal.ITIMER_REAL, 0)
        except Interrupt:
            self.armed = False
            return True
        return False

    def _arrive(self, *args):
        if self.armed:
            self.armed = False
            raise Interrupt("a signal")

    def _unraisable(self, unraisable):
        """A signal may arrive in a destructor or a callback of a weak reference, which Python then reports."""
        if not isinstance(unraisable.exc_value, Interrupt):
            self.hook(unraisable)
