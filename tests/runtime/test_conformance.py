"""The conformance suite: every backend passes it, and an adapter with any one defect does not."""

import ast
import inspect
import re
from pathlib import Path

import pytest
from helpers_adapters import (
    DEFECTS,
    NUMPY,
    OF_FRAMEWORKS,
    adapter_of_arrays,
    broken,
    framework,
    promoting,
    wrong,
    wrong_operator,
)

import multisched as ms
from multisched.errors import UnknownBackend
from multisched.graph import infer, namespace
from multisched.graph.program import OPERATORS
from multisched.runtime.protocol import Backend, Extras
from multisched.testing import CHECKS, ConformanceError, check_backend, operations, shaping

BY_NAME = {check.__name__: check for check in CHECKS}
OF_OPERATIONS = (*operations.CHECKS, *shaping.CHECKS)
DUNDER = {
    **{"add": "add", "subtract": "sub", "multiply": "mul", "divide": "truediv", "floor_divide": "floordiv"},
    **{"remainder": "mod", "pow": "pow", "matmul": "matmul", "bitwise_and": "and", "bitwise_or": "or"},
    **{"bitwise_xor": "xor", "bitwise_left_shift": "lshift", "bitwise_right_shift": "rshift", "equal": "eq"},
    **{"not_equal": "ne", "less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge"},
}


def recorded_functions():
    """The functions that the recording namespace can put into a program, read from its source and its tables."""
    called = [n for n in ast.walk(ast.parse(inspect.getsource(namespace))) if isinstance(n, ast.Call) and n.args]
    named = [n.args[0] for n in called if getattr(n.func, "attr", None) in ("op", "_view")]
    names = {n.value for n in named if isinstance(n, ast.Constant)}
    return (names | {*infer.UNARY, *infer.BINARY, *infer.REDUCTIONS}) - {*OPERATORS, "getitem"}


FUNCTIONS = sorted(recorded_functions())


# --- the backends ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("check", CHECKS, ids=BY_NAME)
def test_the_backend_passes(backend, check):
    """Each backend of the library keeps each clause of the contract."""
    check(ms.get_backend(backend))


# --- the checks can fail ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "members"), DEFECTS.values(), ids=DEFECTS)
def test_a_defect_is_found(name, members):
    """An adapter that is NumPy's but for one defect breaks the clause that rules it out, and the message says which."""
    with pytest.raises(AssertionError, match=rf" breaks Backend.* in {name}: "):
        BY_NAME[name](broken(**members))


@pytest.mark.parametrize(("base", "name", "members"), OF_FRAMEWORKS.values(), ids=OF_FRAMEWORKS)
def test_a_defect_of_a_framework_is_found(base, name, members):
    """Defects that need gradients, donated memory or tracers are found on the adapters of frameworks that have them."""
    with pytest.raises(AssertionError, match=rf" breaks Backend.* in {name}: "):
        BY_NAME[name](broken(framework(base), **members))


def noticed(backend):
    """Whether a check of operations fails."""
    for check in OF_OPERATIONS:
        try:
            check(backend)
        except AssertionError:
            return True
    return False


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_wrong_function_is_found(name):
    """If any one function that programs call gives a wrong value, the suite notices."""

    def operation(self, asked):
        function = NUMPY.operation(self, asked)
        return function if asked != name else lambda *args, **kwargs: wrong(function(*args, **kwargs))

    assert noticed(broken(operation=operation))


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "astype"])
def test_a_wrong_dtype_is_found(name):
    """If any one function that programs call gives the right value in a wrong dtype, the suite notices."""

    def operation(self, asked):
        function = NUMPY.operation(self, asked)
        return function if asked != name else lambda *args, **kwargs: function(*args, **kwargs).astype("complex128")

    assert noticed(broken(operation=operation))


@pytest.mark.parametrize("name", OPERATORS)
def test_a_wrong_operator_is_found(name):
    """If any one operator of arrays is off, the check of operators notices."""
    dunder = f"__{DUNDER[name]}__"
    assert BY_NAME["operators_of_arrays"](adapter_of_arrays()) is None
    with pytest.raises(AssertionError, match=f"given .*{'x @ y' if name == 'matmul' else name} of"):
        BY_NAME["operators_of_arrays"](adapter_of_arrays(**{dunder: wrong_operator(dunder)}))


def test_a_number_that_promotes_is_found():
    """If a Python number makes a float32 array a float64 one, the check of numbers notices."""
    assert BY_NAME["operators_with_numbers"](adapter_of_arrays()) is None
    with pytest.raises(AssertionError, match=r"x \* 0.5"):
        BY_NAME["operators_with_numbers"](adapter_of_arrays(__mul__=promoting))


def test_a_wrong_index_is_found():
    """If arrays cannot be indexed as the standard has it, the check of indexing notices."""
    assert BY_NAME["indexing"](adapter_of_arrays()) is None
    with pytest.raises(AssertionError, match="in indexing"):
        BY_NAME["indexing"](adapter_of_arrays(__getitem__=lambda self, key: self))


def test_every_check_and_every_member_can_fail():
    """The defects above set off every check, and touch every member of the contract."""
    found = {name for name, _ in DEFECTS.values()} | {name for _, name, _ in OF_FRAMEWORKS.values()}
    by_operation = {check.__name__ for check in OF_OPERATIONS}
    assert found | by_operation == set(BY_NAME)
    members = {name for *_, members in (*DEFECTS.values(), *OF_FRAMEWORKS.values()) for name in members}
    assert members == members_of(Backend)


def members_of(protocol):
    return {name for name in (*vars(protocol), *protocol.__annotations__) if not name.startswith("_")}


def test_what_adapters_may_have_is_described():
    """Whatever the library looks for in an adapter is in `Backend` or in `Extras`, and each of the extras is used."""
    sources = "\n".join(path.read_text(encoding="utf-8") for path in Path(ms.__file__).parent.rglob("*.py"))
    looked_for = set(re.findall(r'(?:get|has)attr\([\w.]*backend, "(\w+)"', sources))
    assert {"unreadable", "memory"} <= looked_for
    assert looked_for <= members_of(Backend) | members_of(Extras)
    prepared = {
        "blend_writes",
        "blend_by_writes",
        "overwriting",
        "writer",
    }  # by a name that is put together, and by class
    assert looked_for | prepared >= members_of(Extras)


# --- check_backend ---------------------------------------------------------------------------------------------------
def test_all_clauses_that_are_broken_are_listed():
    """One run tells of all broken clauses, by member and check, with an exception for each that says what was given."""
    with pytest.raises(ConformanceError) as raised:
        check_backend(broken(name="lame", in_place=0, stop_gradient=lambda self, array: array * 0, device=str))
    listed = str(raised.value)
    names = ["in_place_is_told", "devices_are_found_or_refused", "stop_gradient_stops_gradients"]
    assert listed.startswith("'lame' breaks the contract")
    assert all(f" in {name}: " in listed for name in names)
    assert len(raised.value.exceptions) == listed.count("\n  Backend")
    assert all("given" in str(e) or "Error" in str(e) for e in raised.value.exceptions)
    assert isinstance(raised.value, ms.errors.MultischedError)
    assert isinstance(raised.value.subgroup(AssertionError), ConformanceError)


@pytest.mark.parametrize("given", [ms.get_backend("numpy"), "numpy", __import__("numpy")], ids=repr)
def test_whatever_names_a_backend_is_taken(given):
    """An adapter, its name, or a module; one that is right gives nothing."""
    assert check_backend(given) is None


def test_an_unknown_backend_is_no_broken_one():
    """A name that is no backend's is the error that it is elsewhere."""
    with pytest.raises(UnknownBackend, match="nowhere"):
        check_backend("nowhere")
