"""Graphs and scopes: where things are declared, what they are called, and what is listed."""

import gc

import pytest

import multisched as ms
from multisched import errors


def names(listed):
    return [tensor.path for tensor in listed]


def test_a_declaration_goes_to_the_current_graph(graph):
    """Inside a `with` block declarations go to its graph; graphs nest, and an exception leaves them as well."""
    inner = ms.Graph("inner")
    outside = ms.Variable(0.0, name="outside")
    with inner:
        inside = ms.Variable(0.0, name="inside")
        assert ms.current_graph() is inner
        assert ms.get_variables() == [inside]
    with pytest.raises(ZeroDivisionError), inner:
        raise ZeroDivisionError
    assert ms.current_graph() is graph
    assert ms.get_variables() == [outside]
    assert (inside.graph, outside.graph) == (inner, graph)


def test_a_graph_may_be_entered_inside_itself(graph):
    """Entering a graph twice, and others between, comes back step by step."""
    first, second = ms.Graph("first"), ms.Graph("second")
    seen = []
    with first, second, first:
        seen.append(ms.current_graph())
    with first:
        with second:
            pass
        seen.append(ms.current_graph())
    assert seen == [first, first]
    assert ms.current_graph() is graph


def test_entering_a_graph_starts_at_its_root():
    """A scope belongs to the graph in which it was entered: another graph starts at its own root."""
    with ms.Scope("outer"):
        with ms.Graph("inner"):
            assert ms.current_scope() == "/"
            held = ms.Variable(0.0, name="w")
        assert ms.current_scope() == "/outer/"
    assert held.path == "/w"


def test_scopes_nest_and_number():
    """The path of a scope has the names around it; a second scope of a name is numbered, within its own scope alone."""
    paths = []
    for outer in ("a", "b", "a"):
        with ms.Scope(outer):
            for _ in range(2):
                with ms.Scope("c"):
                    paths.append(ms.current_scope())
    assert paths == ["/a/c/", "/a/c_1/", "/b/c/", "/b/c_1/", "/a_1/c/", "/a_1/c_1/"]
    assert ms.current_scope() == "/"


def test_a_scope_entered_again_goes_on():
    """The same object is the same scope, wherever it is entered again, and goes on numbering."""
    scope = ms.Scope("enc")
    held = []
    for _ in range(2):
        with scope:
            held.append(ms.Variable(0.0, name="w"))
    with ms.Scope("elsewhere"), scope:
        held.append(ms.Variable(0.0, name="w"))
    assert names(held) == ["/enc/w", "/enc/w_1", "/enc/w_2"]


def test_a_scope_starts_anew_in_another_graph():
    """A scope entered in another graph, or after a reset, is a new one there."""
    scope = ms.Scope("enc")
    held = []
    for graph in (ms.Graph("a"), ms.Graph("b")):
        with graph, scope:
            held.append(ms.Variable(0.0, name="w"))
    ms.current_graph().reset()
    with scope:
        held.append(ms.Variable(0.0, name="w"))
    assert names(held) == ["/enc/w"] * 3


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (["w", "w", "w"], ["w", "w_1", "w_2"]),
        (["w_1", "w", "w"], ["w_1", "w", "w_2"]),
        (["w", "w", "w_1"], ["w", "w_1", "w_1_1"]),
        (["w", "w_1", "w"], ["w", "w_1", "w_2"]),
        (["w_01", "w", "w"], ["w_01", "w", "w_1"]),
        (["w", "W", "w"], ["w", "W", "w_1"]),
        (["w_1", "w_1", "w", "w", "w"], ["w_1", "w_1_1", "w", "w_2", "w_3"]),
    ],
)
def test_names_are_unique(asked, given):
    """Whatever names are asked for, in whichever order, no two are the same, and a free name is given as it is."""
    assert [ms.Variable(0.0, name=name).name for name in asked] == given


def test_averages_are_numbered_as_scopes():
    """Of two averages the second lives in "/ExponentialMovingAverage_1/", and its variables keep their names."""
    x = ms.Placeholder((2,))
    held = [ms.ExponentialMovingAverage(x, 0.9) for _ in range(2)] + [ms.PiecewiseConstant(1, {}) for _ in range(2)]
    assert [v.path for v in ms.get_variables()] == [
        "/ExponentialMovingAverage/EMA",
        "/ExponentialMovingAverage/first_step",
        "/ExponentialMovingAverage_1/EMA",
        "/ExponentialMovingAverage_1/first_step",
        "/PiecewiseConstant/step",
        "/PiecewiseConstant_1/step",
    ]
    assert len(held) == 4


def test_reset_forgets_names_and_lists_but_kills_nothing():
    """After a reset nothing is listed and names start anew; what somebody holds goes on working."""
    lr = ms.PiecewiseConstant(1, {1: 2})
    f = ms.function(outputs=lr, updates=ms.get_updates())
    ms.current_graph().reset()
    assert (ms.get_variables(), ms.get_ops(), ms.get_placeholders(), ms.get_updates()) == ([], [], [], {})
    assert [float(f()) for _ in range(3)] == [1.0, 2.0, 2.0]
    again = ms.PiecewiseConstant(1, {})
    assert again.counter.path == lr.counter.path == "/PiecewiseConstant/step"
    assert ms.get_variables() == [again.counter]


def test_reset_inside_a_scope_keeps_the_scope():
    """A reset inside a scope forgets what is there; outside of it, names start anew."""
    with ms.Scope("a"):
        ms.current_graph().reset()
        assert ms.current_scope() == "/a/"
    assert ms.current_scope() == "/"
    with ms.Scope("a"):
        assert ms.current_scope() == "/a/"


def test_updates_of_given_variables_need_no_graph():
    """`get_updates(variables=...)` gives those of any graph, in the order given, after a reset too."""
    here = ms.PiecewiseConstant(1, {})
    with ms.Graph("another"):
        there = [ms.PiecewiseConstant(1, {}) for _ in range(20)]
    ms.current_graph().reset()
    wanted = [there[3].counter, here.counter, *(t.counter for t in there[:3]), *(t.counter for t in there[4:])]
    assert list(ms.get_updates(variables=wanted)) == wanted


def test_globs_hold_for_given_variables_too():
    """`name` and `scope` choose among the given variables, of whatever graph they are."""
    with ms.Graph("another"):
        lr, average = ms.PiecewiseConstant(1, {}), ms.ExponentialMovingAverage(ms.Placeholder(()), 0.9)
    given = (*lr.variables, *average[0].variables)
    assert names(ms.get_updates("step", variables=given)) == ["/PiecewiseConstant/step"]
    assert names(ms.get_updates("EMA", "/Exp*", variables=given)) == ["/ExponentialMovingAverage/EMA"]


LISTED = {
    "all": ({}, ["/w", "/a/w", "/a/b/w", "/a/b/v", "/B/w"]),
    "a name": ({"name": "v"}, ["/a/b/v"]),
    "a scope": ({"scope": "/a/"}, ["/a/w"]),
    "a scope and below": ({"scope": "/a/*"}, ["/a/w", "/a/b/w", "/a/b/v"]),
    "the root": ({"scope": "/"}, ["/w"]),
    "any of a set": ({"name": "[uvx]"}, ["/a/b/v"]),
    "one character": ({"name": "?", "scope": "/?/"}, ["/a/w", "/B/w"]),
    "case matters": ({"scope": "/b/*"}, []),
    "no glob, no prefix": ({"name": "", "scope": "/a"}, []),
}


@pytest.mark.parametrize(("globs", "expected"), LISTED.values(), ids=LISTED)
def test_globs_choose_by_name_and_scope(globs, expected):
    """Both globs must match, the case included; what is listed comes in the order of declaration."""
    held = [ms.Variable(0.0, name="w")]
    with ms.Scope("a"):
        held.append(ms.Variable(0.0, name="w"))
        with ms.Scope("b"):
            held += [ms.Variable(0.0, name="w"), ms.Variable(0.0, name="v")]
    with ms.Scope("B"):
        held.append(ms.Variable(0.0, name="w"))
    ms.add_updates({v: v + 1 for v in held[::-1]})
    assert names(ms.get_variables(**globs)) == names(ms.get_updates(**globs)) == expected


@pytest.mark.parametrize(("globs", "expected"), LISTED.values(), ids=LISTED)
def test_globs_choose_what_is_reset(backend, globs, expected):
    """`reset_variables` sets those that match back, and leaves the others."""
    held = [ms.Variable(0.0, name="w")]
    with ms.Scope("a"):
        held.append(ms.Variable(0.0, name="w"))
        with ms.Scope("b"):
            held += [ms.Variable(0.0, name="w"), ms.Variable(0.0, name="v")]
    with ms.Scope("B"):
        held.append(ms.Variable(0.0, name="w"))
    for variable in held:
        variable.update(1.0)
    ms.reset_variables(**globs)
    assert [v.path for v in held if float(v.value) == 0.0] == expected


def test_each_kind_is_listed_by_itself():
    """Variables, placeholders and operations are listed apart; constants are not listed; `trainable` chooses."""
    x, w = ms.Placeholder((), name="x"), ms.Variable(0.0, name="w")
    fixed = ms.Variable(0.0, name="fixed", trainable=False)
    op = x * w + 2.0
    assert ms.get_placeholders() == [x]
    assert ms.get_variables() == [w, fixed]
    assert ms.get_variables(trainable=True) == [w]
    assert ms.get_variables(trainable=False) == [fixed]
    assert [o.fn for o in ms.get_ops()] == ["multiply", "add"]
    assert ms.get_ops("add") == [op]
    assert ms.get_ops(scope="/none/") == []


def test_lists_hold_only_what_is_held():
    """A dropped operation is not listed any more, unless another that is held needs it."""
    x = ms.Placeholder(())
    total = x * 2 + 1
    assert [o.fn for o in ms.get_ops()] == ["multiply", "add"]
    del total
    gc.collect()
    assert ms.get_ops() == []


def test_printing_and_listing_declare_nothing(graph):
    """`repr`, listing and reading leave the lists, the names and the values as they were (law 1)."""
    lr = ms.PiecewiseConstant(1, {1: 2})
    before = names(graph.find(ms.Tensor))
    for _ in range(3):
        assert repr([lr, ms.get_updates(), graph])
        assert float(lr.value) == 1.0
    assert names(graph.find(ms.Tensor)) == before
    assert ms.Variable(0.0, name="w").name == "w"


def test_repr_names_them():
    """Graphs and scopes print as what builds them."""
    assert (repr(ms.Graph("g")), repr(ms.Scope("s"))) == ("Graph('g')", "Scope('s')")


@pytest.mark.parametrize("name", ["", "a/b", "*", "a?", "[a]", "a\tb", None, 1])
@pytest.mark.parametrize("kind", [ms.Graph, ms.Scope, lambda name: ms.Placeholder((), name=name)])
def test_names_that_paths_could_not_hold_are_errors(kind, name):
    """What a path or a glob could not address is no name, of a graph, a scope or a tensor; nothing is declared."""
    with pytest.raises(errors.InvalidName, match="name"):
        kind(name)
    assert ms.get_placeholders() == []
