"""Declared again and again, as by a notebook cell that is run many times: the old things are gone, and take nothing."""

import gc
import sys
import traceback

import pytest
from helpers_frontend import number

import multisched as ms
from multisched import errors

CELL = """
x = ms.Placeholder((), name="x")
lr = ms.PiecewiseConstant(0.1, {4: 1, 8: 2})
average, fixed = ms.ExponentialMovingAverage(x, 0.9)
total = ms.Variable(0.0, name="total")
ms.add_updates({total: total + average})
f = ms.function(x, outputs=(lr, average, total), updates=ms.get_updates())
"""
NAMES = ["step", "EMA", "first_step", "total"]


@pytest.fixture(autouse=True)
def _without_collector():
    """Nothing here may depend on when Python's collector comes by."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def run(cell, namespace):
    exec(compile(cell, "<cell>", "exec"), namespace)


def names_of(updates):
    return [variable.name.partition("_1")[0].rstrip("0123456789").rstrip("_") for variable in updates]


@pytest.mark.parametrize("way", ["one cell", "two cells", "no function"])
def test_a_cell_run_again(backend, way):
    """After forty runs of the same cell, updates, functions and lists know of the last run alone."""
    head, _, tail = CELL.rpartition("f = ")
    namespace = {"ms": ms}
    for i in range(40):
        run(CELL if way == "one cell" else head, namespace)
        if way == "two cells" and i % 3 == 0:
            run("f = " + tail, namespace)
        assert names_of(ms.get_updates()) == NAMES
    if way == "two cells":
        run("f = " + tail, namespace)
    if way != "no function":
        f = namespace["f"]
        assert len(f.state) == 4
        _, average, total = f(3.0)
        assert (number(average, backend), number(total, backend)) == (3, 0)
        assert names_of(ms.get_variables()) == NAMES


def test_a_cell_as_documented_prints_the_same_paths():
    """Names count up as ever, so that paths tell what is from which run."""
    namespace = {"ms": ms}
    for i in range(3):
        run("var = ms.PiecewiseConstant(0.1, {4: 1, 8: 2})\nupdates = str(ms.get_updates())", namespace)
        scope = "/PiecewiseConstant/" if i == 0 else f"/PiecewiseConstant_{i}/"
        assert namespace["updates"] == (
            f"{{Variable(name=step, shape=(), dtype=int32, trainable=False, scope={scope}): "
            f"Op(name=add, fn=add, shape=(), dtype=int32, scope={scope})}}"
        )


def test_memory_over_many_runs(backend):
    """A hundred runs leave no more tensors and blocks of memory than forty."""
    namespace = {"ms": ms}
    cell = CELL.replace("get_updates())", "get_updates(), jit=False)")
    blocks = []
    for i in range(120):
        run(cell, namespace)
        if i in (39, 119):
            gc.collect()
            blocks.append(sys.getallocatedblocks())
    assert blocks[1] - blocks[0] < 200
    assert len(ms.current_graph().find(ms.Tensor)) < 60


def test_cells_that_fail(backend):
    """What a run declared that ended in an error is not dragged along, though its traceback is kept."""
    bad = CELL.replace("updates=ms.get_updates()", "updates=ms.get_updates(), outputs=[total, 7]").replace(
        "outputs=(lr, average, total), ", ""
    )
    namespace, kept = {"ms": ms}, []
    for _ in range(5):
        with pytest.raises(errors.NotATensor) as caught:
            run(bad, namespace)
        kept.append(caught.value)
        run(CELL, namespace)
        assert len(namespace["f"].state) == 4
    assert all("must be a declared tensor" in "".join(traceback.format_exception(e)) for e in kept)


def test_what_is_held_stays_listed(backend):
    """An update is listed while its variable, what was declared with it, or something made of that is held."""
    x = ms.Placeholder(())

    def layer():
        mean, _ = ms.ExponentialMovingAverage(x, 0.5)
        calls = ms.Variable(0.0, name="calls")
        ms.add_updates({calls: calls + 1})
        return x - mean + calls

    held = {"expression": layer(), "result": ms.PiecewiseConstant(0.5, {1: 1.0})}
    held["variables"] = ms.SimpleMovingAverage(x, 2)[0].variables
    held["counter"] = ms.PiecewiseConstant(0.5, {1: 1.0}).counter
    assert len(ms.get_updates()) == 3 + 1 + 2 + 1
    kept = ms.get_updates()
    held.clear()
    assert len(ms.get_updates()) == 7
    del kept
    assert ms.get_updates() == {}


def test_variables_that_need_each_other(backend):
    """A variable that only the update of another needs stays, with an update of its own; both go together."""

    def pair():
        inner, outer = ms.Variable(1.0, name="inner"), ms.Variable(0.0, name="outer")
        ms.add_updates({inner: inner * 2 + 0 * outer, outer: outer + inner})
        return outer

    outer = pair()
    assert names_of(ms.get_updates()) == ["inner", "outer"]
    f = ms.function(outputs=outer, updates=ms.get_updates(), jit=False)
    assert [number(f(), backend) for _ in range(4)] == [0, 1, 3, 7]
    del outer
    assert ms.get_updates() == {}
    assert number(f(), backend) == 15


def test_a_function_keeps_values_that_nobody_else_holds(backend, tmp_path):
    """Variables of a function alone are listed, saved, loaded and set, as long as the function is there."""
    f = ms.function(outputs=ms.PiecewiseConstant(0.5, {2: 2.0}), updates=ms.get_updates())
    f()
    (step,) = ms.get_variables()
    assert (step.path, number(step.value, backend)) == ("/PiecewiseConstant/step", 1)
    ms.save_variables(tmp_path / "file")
    step.update(5)
    assert number(f(), backend) == 2
    ms.load_variables(tmp_path / "file")
    assert number(step.value, backend) == 1
    ms.reset_variables()
    assert number(step.value, backend) == 0
    again = ms.function(outputs=step + 1)
    assert number(again(), backend) == 1
    del f, step, again
    assert ms.get_variables() == []


def test_results_that_nobody_takes(backend):
    """What is declared as a line of its own is known by its updates until a function is built with them."""
    x = ms.Placeholder(())
    for _ in range(3):
        ms.ExponentialMovingAverage(x, 0.5)
        ms.SimpleMovingAverage(x, 2)
        updates = ms.get_updates()
        assert names_of(updates) == ["EMA", "first_step", "SMA", "count"]
        f = ms.function(x, updates=updates)
        del updates
    assert len(f.state) == 4


def test_a_placeholder_of_before_is_explained():
    """Where something still holds an average of an older placeholder, the error says which variable needs it."""
    x = ms.Placeholder((), name="x")
    history = [ms.ExponentialMovingAverage(x, 0.5)[0]]
    x = ms.Placeholder((), name="x")
    with pytest.raises(errors.MissingInput, match=r"(?s)depend on Placeholder\(name=x,.*update of Variable\(name=EMA"):
        ms.function(x, outputs=x, updates=ms.get_updates())
    history.clear()
    ms.function(x, outputs=x, updates=ms.get_updates())


def test_graphs_of_their_own():
    """A cell that opens a graph of its own starts anew each time, and names are the same."""
    namespace = {"ms": ms}
    indented = "with ms.Graph('cell'):" + CELL.replace("\n", "\n    ")
    for _ in range(5):
        run(indented, namespace)
        assert list(namespace["f"].state) == [
            "/PiecewiseConstant/step",
            "/ExponentialMovingAverage/EMA",
            "/ExponentialMovingAverage/first_step",
            "/total",
        ]


def test_history_of_ipython():
    """In IPython, cells run again drag nothing along; what its history holds is held."""
    pytest.importorskip("IPython", reason="the test runs cells of IPython, which is not installed")
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    try:
        for _ in range(4):
            assert shell.run_cell("import multisched as ms\n" + CELL + "f", silent=False).success
            assert len(shell.user_ns["f"].state) == 4
        shell.run_cell("lr", store_history=True)
        shell.run_cell(CELL)
        assert len(shell.user_ns["f"].state) == 5
    finally:
        InteractiveShell.clear_instance()
