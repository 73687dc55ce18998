"""Averages over forks, at the end of Python, and in environments of any kind: nothing hangs, and nothing is torn."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from multisched_backends import host

WORKER = Path(__file__).with_name("worker_process.py")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def run(what, cores="2"):
    """What a function of the worker prints, line by line; it ends in time, and prints no error."""
    environment = {**os.environ, "OMP_NUM_THREADS": cores, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, WORKER, what], env=environment, capture_output=True, text=True, timeout=300)
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.splitlines()


@forks
def test_a_child_goes_on_by_itself():
    """An update in a forked process returns, with threads or without, and the parent's goes on."""
    assert run("forked") == ["(3, 1.5)"] * 4


@forks
def test_a_fork_comes_between_two_updates():
    """An average that another thread updates is whole in the child."""
    assert run("forked_while_updating") == ["1.0"] * 5


@forks
def test_a_lock_of_another_thread_does_not_stop_the_child():
    """The thread that holds it is not in the child, where it would never be released."""
    assert run("forked_while_held") == ["(3, 1.5)"] * 2


def test_averages_are_used_until_python_ends():
    """In handlers at exit, in daemon threads, in destructors; nothing is printed of errors."""
    assert len(run("at_exit")) == 2
    assert run("swapped_at_exit") == ["ok"]


def test_an_average_is_not_sent_to_a_process():
    """`spawn` pickles what a process is given; an average says what to do instead."""
    assert "neither copied nor pickled" in run("pickled")[0]


@pytest.mark.parametrize(
    ("text", "cores"),
    [("4,2", 4), ("", 0), ("abc", 0), ("0", 0), ("-1", 0), (" 3 ", 3), ("1e3", 0), ("9" * 5000, 0), ("٣", 0), ("1", 1)],
)
def test_the_number_of_threads_may_be_any_text(monkeypatch, text, cores):
    """A number is the number of threads; of a list the first; anything else leaves the number to the system."""
    monkeypatch.setattr(host.os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert host._cores() == (cores or 6)


@pytest.mark.parametrize("text", ["abc", ""])
def test_an_update_runs_whatever_the_number_of_threads(text):
    """Also of many elements, by threads."""
    assert run("threads", text)[0].startswith("(3, 1.5)")
