"""Expressions of schedules as text: what `repr` prints is read back equal; any other text is an error at a column."""

import importlib
import inspect

import pytest
from helpers_schedules import SHAPES, extreme, schedules
from hypothesis import given, settings
from hypothesis import strategies as st

import multisched as ms
from multisched import errors
from multisched.schedules.catalogue import DIALECTS

LINE = ms.linear(1.0, 0.0, 4)


# --- what repr prints ------------------------------------------------------------------------------------------------
@settings(max_examples=4 * settings.default.max_examples)  # there is much to draw, and drawing is quick
@given(lr=schedules(numbers=extreme, shapes=SHAPES))
def test_repr_is_read_back(lr):
    """What `repr` prints is read as an equal schedule, whose `repr` is the same: ints are ints and floats floats."""
    again = ms.parse(repr(lr))
    assert (again, hash(again), repr(again)) == (lr, hash(lr), repr(lr))


# --- the grammar is Python's -----------------------------------------------------------------------------------------
def expressions(leaf):
    """Texts of up to five operands, with signs, parentheses and spaces in between."""
    signs = st.sampled_from([" + ", "-", " * ", "/", "**", " - -", "*-", " ** -"])
    one = st.one_of(leaf, leaf.map("-{}".format), leaf.map("abs({})".format), leaf.map("( {} )".format))
    two = st.one_of(one, st.builds("({}{}{})".format, one, signs, one), st.builds("-({}{}{})".format, one, signs, one))
    return st.builds(lambda a, s, b, t, c: f"{a}{s}{b}{t}{c}", one, signs, two, signs, two)


def in_python(text):
    """The value that Python gives, as a finite real number or a schedule; else None."""
    try:
        value = eval(text, {"linear": ms.linear, "abs": abs, "x": LINE})
        real = not isinstance(value, complex) and abs(float(value)) <= 1.7e308
    except TypeError:  # a schedule is no float
        return value
    except ArithmeticError:
        return None
    return value if real else None


number_texts = st.sampled_from(["0", "1", "2", "0.5", "1.", ".25", "1e-3", "2_0", "1_0.2_5E+0_1"])


@given(text=expressions(number_texts))
def test_arithmetic_of_numbers_is_pythons(text):
    """An expression of numbers has the value and the type that Python gives; where that is not real, it is an error."""
    value = in_python(text)
    if value is None:
        with pytest.raises(errors.ParseError):
            ms.parse(f"constant({text})")
    else:
        parsed = ms.parse(f"constant({text})")
        assert repr(parsed) == repr(ms.constant(value))


@given(text=expressions(st.one_of(number_texts, st.just("linear(1.0, 0.0, 4)"))).map("x * ({})".format))
def test_arithmetic_of_schedules_is_pythons(text):
    """An expression of schedules and numbers groups as Python has it."""
    value = in_python(text)
    text = text.replace("x", repr(LINE), 1)
    if value is None:
        with pytest.raises(errors.ParseError):
            ms.parse(text)
    else:
        assert ms.parse(text) == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linear(1.0, 0.0, 4)", LINE),
        ("  linear (\n\t1.0 ,0.0,steps = 4 , )\r\n", LINE),
        ("((linear(end=0.0, steps=4, init=1.0)))", LINE),
        ("cosine(0.1 * 256 / 128, 1_000)", ms.cosine(0.2, 1000)),
        ("constant(2**3**2)", ms.constant(512)),
        ("constant(-2**2)", ms.constant(-4)),
        ("constant(2**-1)", ms.constant(0.5)),
        ("constant(10**30)", ms.constant(10**30)),
        ("constant(abs(-3))", ms.constant(3)),
        ("constant(00)", ms.constant(0)),
        ("constant(07.5)", ms.constant(7.5)),
        ("-linear(1.0, 0.0, 4)**2", -(LINE**2)),
        ("multiply(2, negative(linear(1.0, 0.0, 4)))", 2 * -LINE),
        ("[[1, 2.5], [3, -4]] * linear(1.0, 0.0, 4)", [[1.0, 2.5], [3.0, -4.0]] * LINE),
        ('cyclic(0, 1, 4, None, mode="exp_range", gamma=0.9)', ms.cyclic(0, 1, 4, mode="exp_range", gamma=0.9)),
        ("polynomial(1, 0, 4, cycle=True, begin=0)", ms.polynomial(1, 0, 4, cycle=True)),
        ("piecewise_constant(0.1, {2 * 4: 2, 4: 1,})", ms.piecewise_constant(0.1, {4: 1, 8: 2})),
        ("piecewise_constant([1, 2], {4: [3, 4]})", ms.piecewise_constant([1, 2], {4: [3, 4]})),
        ("join([linear(1.0, 0.0, 4), constant(1)], [10])", ms.join([LINE, ms.constant(1)], [10])),
    ],
)
def test_what_may_be_written(text, expected):
    """Spaces, trailing commas, keywords, arithmetic of numbers, strings, constants, lists and dicts."""
    assert repr(ms.parse(text)) == repr(expected)


# --- errors at their columns -----------------------------------------------------------------------------------------
BAD = [  # the column is that of the @, which is taken out
    ("@", "Expected a schedule or a number, but the text ends"),
    ("  \n @", "but the text ends"),
    ("@'0.5'", "Expected a schedule, such as constant"),
    ("@True", "Expected a schedule, such as constant"),
    ("  @[linear(1, 0, 4)]", "Expected a schedule"),
    ("linear(1, 0, 4@", "',' or '\\)', but the text ends"),
    ("linear(1, 0, 4)@)", "an operator or the end, but there is '\\)'"),
    ("linear(1, 0, 4)@(3)", "an operator or the end"),
    ("(linear(1, 0, 4)@]", "Expected '\\)'"),
    ("linear(1 @0, 4)", "',' or '\\)', but there is '0'"),
    ("linear(@, 0, 4)", "a schedule or a number, but there is ','"),
    ("2 * @linaer(1, 0, 4)", "Did you mean 'linear'"),
    ("@__import__('os')", "No schedule or rule is called '__import__'"),
    ("@from_function(abs)", "No schedule or rule is called 'from_function'"),
    ("@torch:StepsLR(1, 2)", "No schedule or rule is called 'torch:StepsLR'"),
    ("linear@", "'\\(' and the arguments of linear, but the text ends"),
    ("@linear.init", "No schedule or rule is called 'linear.init'"),
    ("linear@..init", "Unexpected '.'"),
    ("delay(@inf * linear(1, 0, 4), 3)", "No schedule or rule is called 'inf'"),
    ("linear(1, 0, 4) @% 2", "Unexpected '%'"),
    ("linear(1, 0, 4) @; 2", "Unexpected ';'"),
    ("2 @÷ linear(1, 0, 4)", "Unexpected '÷'"),
    ("@٣ * linear(1, 0, 4)", "Unexpected '٣'"),
    ("linear(1,@\xa00, 4)", "Unexpected"),
    ("@+linear(1, 0, 4)", "a schedule or a number"),
    ("linear(1, 0, 4) * @* 2", "a schedule or a number, but there is '\\*'"),
    ("linear(@0x10, 0, 4)", "runs into"),
    ("linear(@1.2.3, 0, 4)", "runs into"),
    ("linear(@1__0, 0, 4)", "runs into"),
    ("linear(@1e, 0, 4)", "runs into"),
    ("linear(@2j, 0, 4)", "runs into"),
    ("linear(@007, 0, 4)", "begin with 0"),
    ("linear(@1e999, 0, 4)", "too large"),
    (f"linear(@1{'0' * 400}, 0, 4)", "too large"),
    (f"linear(@{'9' * 9999}, 0, 4)", "too large"),
    ("linear(9**9@**9**9, 0, 4)", "no finite real value"),
    ("linear(1e300 @* 1e300, 0, 4)", "no finite real value"),
    ("linear(1 @/ (2 - 2), 0, 4)", "no finite real value"),
    ("linear((-1) @** 0.5, 0, 4)", "no finite real value"),
    ("linear(True @+ 1, 0, 4)", "Arithmetic is of schedules and numbers, got True"),
    ("linear(@-'1', 0, 4)", "Arithmetic is of schedules and numbers, got '1'"),
    ("linear([1, 2] @* 2, 0, 4)", "Arithmetic is of schedules and numbers"),
    ("'2' @* linear(1, 0, 4)", "The first operand must be a real number"),
    ("linear(1, 0, 4) @+ None", "The second operand must be a real number"),
    ("[1, 2] * linear(1, 0, 4) @+ [1, 2, 3]", "do not broadcast"),
    ("cyclic(0, 1, 4, mode=@'triangular)", "not closed"),
    ("cyclic(0, 1, 4, mode=@'tri\\'angular')", "not closed, or holds a backslash"),
    ("cosine(init=1, @3)", "stand before"),
    ("cosine(init=1, @init=2)", "init is given twice"),
    ("cosine(1, 4@=2)", "',' or '\\)'"),
    ("piecewise_constant(1, {@4.0: 2})", "Keys are steps, integers, got 4.0"),
    ("piecewise_constant(1, {4: 2, @2 + 2: 3})", "Step 4 is there twice"),
    ("piecewise_constant(1, {4@})", "Expected ':'"),
    ("piecewise_constant(1, {4: 2@)", "',' or '}'"),
    # from the constructors, at the call
    ("2 * @linear(1, 0)", "linear\\(\\) needs 'steps'"),
    ("2 * @linear(1, 0, 4, stpes=2)", "linear\\(\\) has no argument 'stpes'; did you mean 'steps'"),
    ("@linear(1, 0, 4, steps=2)", "linear\\(\\) was given 'steps' twice"),
    ("@linear(1, 0, 4, 0, 0)", "linear\\(\\) takes at most 4 arguments, got 5"),
    ("warmup(@linear(1, 0, -4), 3)", "linear: steps must be a non-negative number of steps, got -4"),
    ("@warmup(3, 3)", "warmup: schedule must be a schedule"),
    ("@abs()", "abs\\(\\) needs 'x'"),
    ("@abs('x')", "abs: The operand must be a real number"),
    ("@piecewise_constant(1, {-4: 2})", "piecewise_constant: Keys of steps_and_values"),
    ("@piecewise_constant(1, {4: linear(1, 0, 4)})", "The value at step 4 must be a real number"),
    ("@join([linear(1, 0, 4)], [4])", "join: join takes one schedule more"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[text[:30] for text, _ in BAD])
def test_errors_are_at_their_columns(text, message):
    """Whatever is wrong with a text is a `ParseError` at the column where it goes wrong."""
    column = text.index("@") + 1
    with pytest.raises(errors.ParseError, match=message) as raised:
        ms.parse(text.replace("@", ""))
    assert raised.value.column == column


@pytest.mark.parametrize("before", ["", "constant(1) + ", "constant(1) + " * 50])
@pytest.mark.parametrize("after", ["", " * constant(2)" * 50])
def test_the_message_points_at_it(before, after):
    """The message shows the text, cut short if it is long, and a caret under the column."""
    with pytest.raises(errors.ParseError) as raised:
        ms.parse(f"{before}\nlinaer(1)\t{after}")
    _, shown, caret = str(raised.value).split("\n")
    assert shown[caret.index("^") :].startswith("linaer(1)")
    assert f"column {len(before) + 2})" in str(raised.value)
    assert len(shown) < 120


def test_the_constructors_error_is_the_cause():
    """The error of a constructor is kept as the cause, and a `ParseError` is a `ValueError` that can be pickled."""
    with pytest.raises(ValueError, match="got -4") as raised:
        ms.parse("linear(1, 0, -4)")
    assert type(raised.value.__cause__) is errors.StepCountError
    copied = errors.ParseError(*raised.value.args)
    assert (str(copied), copied.column) == (str(raised.value), 1)


@pytest.mark.parametrize("text", [None, b"linear(1, 0, 4)", LINE, 3])
def test_what_is_no_text(text):
    """What is no text at all is Python's own TypeError."""
    with pytest.raises(TypeError, match="parse takes a text"):
        ms.parse(text)


# --- more names ------------------------------------------------------------------------------------------------------
def test_more_names():
    """Names of one's own stand beside those of the catalogue; what they raise is at their column, with its cause."""

    def broken():
        raise AttributeError("oh")

    names = {"double": lambda lr: 2 * lr, "my:double": lambda lr: 2 * lr, "broken": broken, "two": lambda: 2}
    assert ms.parse("1 + double(linear(1.0, 0.0, 4))", names=names) == 1 + 2 * LINE
    assert ms.parse("my:double(lr=linear(1.0, 0.0, 4))", names) == 2 * LINE
    with pytest.raises(errors.ParseError, match="broken: oh") as raised:
        ms.parse("1 + broken()", names)
    assert (raised.value.column, type(raised.value.__cause__)) == (5, AttributeError)
    with pytest.raises(errors.ParseError, match="two makes no schedule"):
        ms.parse("two()", names)
    with pytest.raises(errors.ParseError, match="Did you mean 'my:double'"):
        ms.parse("my:duoble(1)", names)


def test_names_of_the_caller_come_before_those_of_others():
    """They are asked before dialects and other packages, and after the names of the library itself."""
    names = {"torch.StepLR": lambda *_: ms.constant(42), "cosine": lambda *_: ms.constant(42)}
    assert ms.parse("torch.StepLR(1, 2)", names=names) == ms.constant(42)
    assert ms.parse("cosine(1, 2)", names=names) == ms.cosine(1, 2)


@pytest.mark.parametrize("dialect", DIALECTS.dialects())
def test_the_dialects_have_their_names(dialect):
    """Each public function of a dialect's file, and nothing else of it, goes by the name after the dialect's."""
    module = importlib.import_module(f"multisched.dialects.{dialect}")
    own = {name: value for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    public = {f"{dialect}.{name}" for name, value in own.items() if inspect.isfunction(value) and name[0] != "_"}
    assert {name for name in DIALECTS if name.startswith(f"{dialect}.")} == public
    assert all(getattr(module, name.partition(".")[2]) is DIALECTS[name] for name in public)


@pytest.mark.parametrize(
    "name",
    ["torch.Any", "torch.count", "torch.__doc__", "torch._phases", "os.system", "torch", ".", "_arguments.count"],
)
def test_no_other_name_leads_anywhere(name):
    """A name that is imported in a dialect, is private or of no dialect is a KeyError: nothing else can be reached."""
    with pytest.raises(KeyError):
        DIALECTS[name]


def test_an_expression_may_use_a_dialect():
    """Schedules of another library mix with those of this one; elsewhere a name is an error at its column."""
    lr = ms.parse("linear(1.0, 0.0, 4) * torch:StepLR(0.5, step_size=2, gamma=0.5)")
    assert lr == ms.parse("linear(1.0, 0.0, 4) * torch.StepLR(0.5, step_size=2, gamma=0.5)")
    assert [lr(step) for step in range(5)] == [0.5, 0.375, 0.125, 0.0625, 0.0]
    with pytest.raises(errors.ParseError, match="No schedule or rule is called 'torch:system'") as raised:
        ms.parse("linear(1.0, 0.0, 4) * torch:system(0.5)")
    assert raised.value.column == 23
