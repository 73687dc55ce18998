"""Workers in several processes: what they claim, and how they are run without hanging."""

import ast
import json
import os
import signal
import subprocess
import sys

import pytest


def claims(worker):
    """The functions `check_*` of a worker, with what each of them claims."""
    return {
        node.name: ast.get_docstring(node)
        for node in ast.parse(worker.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
    }


def torchrun(worker, folder):
    """Run a worker in two processes of torch, which write what they found into a folder."""
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", worker, folder]
    path = os.pathsep.join(filter(None, [str(worker.parent), os.environ.get("PYTHONPATH")]))
    together([run], PYTHONPATH=path)  # what stands beside the worker is found under PYTHONSAFEPATH, too


def together(commands, timeout=180, **environment):
    """Run commands at the same time, until all have ended well; those that take too long are killed."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    runs = [
        subprocess.Popen(list(map(str, command)), env=environment, start_new_session=True, **pipes)
        for command in commands
    ]
    try:
        outputs = [run.communicate(timeout=timeout)[0] for run in runs]
    except subprocess.TimeoutExpired:
        for run in runs:
            os.killpg(run.pid, signal.SIGKILL)
        pytest.fail("the processes took too long:\n" + "\n".join(run.communicate()[0] for run in runs))
    for run, output in zip(runs, outputs, strict=True):
        assert run.returncode == 0, output


def check_claim(folder, claim, text):
    """Fail if a claim did not hold on one of two processes; skip it where it needs what is not installed."""
    for rank in range(2):
        failure = json.loads((folder / f"{rank}.json").read_text())[claim]
        if failure.startswith("skip: "):
            pytest.skip(failure)
        assert not failure, f"{text}\nOn process {rank} it failed:\n{failure}"
