"""Texts and documents as tools hand them over: command lines, YAML, TOML, OmegaConf, and those of strangers."""

import argparse
import collections
import json
import math
import pickle
import tomllib
import types

import click
import numpy as np
import pytest
from click.testing import CliRunner

import multisched as ms
from multisched import errors

JUMPS = ms.piecewise_constant(0.1, {4: 1, 8: 2})


# --- command lines ---------------------------------------------------------------------------------------------------
def argparse_says(text, kind=ms.parse):
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--lr", type=kind)
    return parser.parse_args(["--lr", text]).lr


@pytest.mark.parametrize("text", ["3e-4", "cosine(0.1, 1000)", "ema(halflife=100)"])
def test_argparse_reads(text):
    """`type=ms.parse` gives schedules and rules."""
    assert argparse_says(text) == ms.parse(text)


@pytest.mark.parametrize("text", ["cosin(0.1, 1000)", "cosine(0.1, -3)", "(", "x" * 100_000, "2 * 'x'"])
def test_argparse_shows_the_whole_message(text):
    """What is wrong with a text is shown with its column, and not as an invalid value of `parse`."""
    with pytest.raises(errors.ParseError) as direct:
        ms.parse(text)
    with pytest.raises(argparse.ArgumentError) as raised:
        argparse_says(text)
    assert str(raised.value) == f"argument --lr: {direct.value}"
    assert isinstance(raised.value.__context__, errors.ParseError)


def test_the_error_is_one_of_argparse():
    """It is `ParseError`, an error of argparse's too, and comes back from a pickle."""
    with pytest.raises(errors.ParseError) as raised:
        ms.parse("cosin(0.1)")
    error = raised.value
    assert type(error) is errors.ParseError
    assert isinstance(error, argparse.ArgumentTypeError)
    assert isinstance(error, ValueError)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.column) == (errors.ParseError, str(error), 1)


def test_click_shows_the_whole_message():
    """So does click, with every version of it, and a command's own call of `ms.parse` raises `ParseError`."""

    @click.command()
    @click.option("--lr", type=ms.parse)
    @click.option("--inside", default="1")
    def command(lr, inside):
        click.echo(repr((lr, ms.parse(inside))))

    assert "(constant(0.0003), constant(1))" in CliRunner().invoke(command, ["--lr", "3e-4"]).output
    failed = CliRunner().invoke(command, ["--lr", "0.5 * cosin(0.1, 1000)"])
    assert failed.exit_code == 2
    expected = "Did you mean 'cosine'? (column 7)\n    0.5 * cosin(0.1, 1000)\n          ^"
    assert expected in failed.output
    inside = CliRunner().invoke(command, ["--lr", "1", "--inside", "cosin(1)"])
    assert isinstance(inside.exception, errors.ParseError)


def test_typer_shows_the_whole_message():
    """And typer."""
    typer = pytest.importorskip("typer", reason="typer is not installed")
    from typer.testing import CliRunner as Runner

    app = typer.Typer()

    @app.command()
    def command(lr: typing_of(typer)):
        typer.echo(repr(lr))

    assert "constant(0.0003)" in Runner().invoke(app, ["--lr", "3e-4"]).output
    failed = Runner().invoke(app, ["--lr", "cosin(0.1)"], env={"COLUMNS": "300", "TERMINAL_WIDTH": "300"})
    assert failed.exit_code == 2
    assert "No schedule or rule is called 'cosin'. Did you mean 'cosine'? (column 1)" in " ".join(failed.output.split())


def typing_of(typer):
    from typing import Annotated

    return Annotated[ms.Schedule, typer.Option(parser=ms.parse)]


def test_the_command_line_of_multisched_shows_schedules_alone():
    """A rule of averages has nothing to show at a step, which is said in words."""
    from multisched.cli import main

    failed = CliRunner().invoke(main, ["table", "ema(0.9)"])
    assert failed.exit_code == 2
    assert "is a rule of averages" in failed.output
    rows = CliRunner().invoke(main, ["table", "--steps", "2", "3e-4"]).output.splitlines()
    assert rows[1:] == ["0,0.0003", "1,0.0003"]


# --- a number is a schedule ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("text", "value"), [("3e-4", 3e-4), ("-1", -1), ("1/4", 0.25), ("(2)", 2), ("2**-3", 0.125)])
def test_a_number_is_a_schedule(text, value):
    """A number alone, as text or in a document, is `constant` of it."""
    assert repr(ms.parse(text)) == repr(ms.constant(value))
    assert repr(ms.from_config(value)) == repr(ms.constant(value))


@pytest.mark.parametrize("value", [True, None, "3e-4", "", [3e-4], math.inf, math.nan, 10**400, b"1"])
def test_what_is_no_number_is_no_schedule(value):
    """Texts are for `parse`, and what is not finite is no schedule."""
    with pytest.raises(errors.ConfigError, match=r"^\$: "):
        ms.from_config(value)


# --- containers of any kind ------------------------------------------------------------------------------------------
class Pairs(collections.abc.Sequence):
    """A sequence that is no list, as a library might have it."""

    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


DOCUMENT = {"name": "piecewise_constant", "init": 0.1, "steps_and_values": [[4, 1], [8, 2]]}


@pytest.mark.parametrize(
    "document",
    [
        types.MappingProxyType(DOCUMENT),
        collections.OrderedDict(DOCUMENT),
        collections.ChainMap({"init": 0.1}, DOCUMENT),
        {**DOCUMENT, "steps_and_values": ((4, 1), (8, 2))},
        {**DOCUMENT, "steps_and_values": Pairs(Pairs(4, 1), Pairs(8, 2))},
        {**DOCUMENT, "steps_and_values": {"4": 1, "8": 2}},
        {**DOCUMENT, "steps_and_values": {8: 2, "4": 1}},
        {**DOCUMENT, "steps_and_values": types.MappingProxyType({np.int64(4): 1, 8: np.float32(2)})},
        {**DOCUMENT, "steps_and_values": np.array([[4, 1], [8, 2]])},
        {**DOCUMENT, "steps_and_values": collections.deque([[4, 1], [8, 2]])},
        tomllib.loads("name = 'piecewise_constant'\ninit = 0.1\n[steps_and_values]\n4 = 1\n8 = 2"),
        json.loads('{"name": "piecewise_constant", "init": 0.1, "steps_and_values": {"4": 1, "8": 2}}'),
    ],
    ids=range(12),
)
def test_any_mapping_and_sequence_is_taken(document):
    """Whatever the containers and the kinds of their numbers, the schedule is the same, to the last character."""
    rule = ms.from_config(document)
    assert rule == JUMPS
    assert json.loads(json.dumps(rule.to_config())) == rule.to_config()


def test_omegaconf():
    """Configs of OmegaConf, and so of Hydra, are taken as they are; a missing value is an error with its path."""
    omegaconf = pytest.importorskip("omegaconf", reason="omegaconf is not installed")
    create = omegaconf.OmegaConf.create
    rules = [JUMPS, ms.paced(ms.ema(ms.warmup(JUMPS, 3)), every=2), ms.ema([0.5, 0.25]), 2 * JUMPS + [1.0, 2.0]]
    for rule in rules:
        assert ms.from_config(create(rule.to_config())) == rule
        assert ms.from_config(create({"lr": rule.to_config()}).lr) == rule
    text = "lr: {name: piecewise_constant, init: '${base}', steps_and_values: {4: 1, '8': 2}}\nbase: 0.1"
    assert ms.from_config(create(text).lr) == JUMPS
    assert ms.piecewise_constant(0.1, create({4: 1, "8": 2})) == JUMPS
    with pytest.raises(errors.ConfigError, match=r"^\$: this DictConfig cannot be read"):
        ms.from_config(create({"name": "constant", "value": "???"}))


def test_yaml():
    """So are those of YAML, whose anchors are parts that are used again."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    text = """
    lr:
      name: add
      x1: &wave {name: piecewise_constant, init: 0.1, steps_and_values: {4: 1, 8: 2}}
      x2: {name: delay, schedule: *wave, steps: 3}
    """
    assert ms.from_config(yaml.safe_load(text)["lr"]) == JUMPS + ms.delay(JUMPS, 3)
    assert ms.from_config(yaml.safe_load(yaml.safe_dump(JUMPS.to_config()))) == JUMPS


KEYED = [ms.piecewise_constant, ms.piecewise_scale, lambda init, steps: ms.piecewise_interpolate(steps)]


@pytest.mark.parametrize("make", KEYED)
def test_keys_of_steps(make):
    """Keys are steps, and may be strings of digits; other strings are errors, and so is a step that is there twice."""
    assert make(0.1, json.loads('{"4": 1, "16": 2, "0": 3}')) == make(0.1, {0: 3, 4: 1, 16: 2})
    for key in ("", "04", "+4", " 4", "4.0", "4_0", "٤", "four", "0x4", "9" * 400, "9" * 100_000):
        with pytest.raises(errors.StepKeyTypeError, match="non-negative integers, got"):
            make(0.1, {key: 1})
    for twice in ({4: 1, "4": 1}, {"4": 1, np.int8(4): 2}):
        with pytest.raises(errors.StepKeyError, match="has the step 4 twice"):
            make(0.1, twice)
    for key in (-4, "-4", 10**309, 10**5000):
        with pytest.raises(errors.StepKeyError):
            make(0.1, {key: 1})


# --- documents and texts of strangers --------------------------------------------------------------------------------
def laughs(levels, around, inner=None):
    """A document in which each part is used twice by the next."""
    document = inner or {"name": "constant", "value": 1}
    for _ in range(levels):
        document = around(document)
    return document


LAUGHS = {
    "sums": lambda part: {"name": "add", "x1": part, "x2": part},
    "joins": lambda part: {"name": "join", "schedules": [part] * 3, "boundaries": [1, 2]},
    "delays": lambda part: {"name": "add", "x1": {"name": "delay", "schedule": part, "steps": 1}, "x2": part},
}


@pytest.mark.parametrize("kind", LAUGHS)
def test_documents_that_stand_for_too_much(kind):
    """Parts that are used again and again are an error, before anything is built; where it is little, they are read."""
    small = ms.from_config(laughs(6, LAUGHS[kind]))
    assert small(3) == ms.from_config(json.loads(json.dumps(laughs(6, LAUGHS[kind]))))(3)
    with pytest.raises(errors.ConfigError, match="used so often that it stands for") as raised:
        ms.from_config(laughs(40, LAUGHS[kind]))
    assert len(str(raised.value)) < 1000
    nodes = [{"name": "constant", "value": 1}]
    nodes += [{"name": "add", "x1": {"node": i}, "x2": {"node": i}} for i in range(60)]
    with pytest.raises(errors.ConfigError, match="so often that it stands for"):
        ms.from_config({"nodes": nodes})


def test_arrays_that_stand_for_too_much():
    """Lists within lists as well."""
    with pytest.raises(errors.ConfigError, match="used so often"):
        ms.from_config({"name": "ema", "alpha": laughs(40, lambda part: [part, part], [0.5, 0.5])})


def test_documents_without_end():
    """A document that contains itself is an error."""
    for endless in ({"name": "negative"}, {"name": "join", "boundaries": []}):
        endless["x" if endless["name"] == "negative" else "schedules"] = [endless]
        with pytest.raises(errors.ConfigError, match="nested more than 100 deep"):
            ms.from_config(endless)


@pytest.mark.parametrize(
    ("nodes", "path"),
    [
        ([], "$.nodes"),
        ({}, "$.nodes"),
        ([{"node": 0}], "$.nodes[0].node"),
        ([{"name": "constant", "value": 1}, {"node": 1}], "$.nodes[1].node"),
        ([{"name": "constant", "value": 1}, {"node": -1}], "$.nodes[1].node"),
        ([{"name": "constant", "value": 1}, {"name": "negative", "x": {"node": "0"}}], "$.nodes[1].x.node"),
        ([{"name": "constant", "value": 1}, {"name": "negative", "x": {"node": 0.0}}], "$.nodes[1].x.node"),
        ([{"name": "constant"}], "$.nodes[0].value"),
    ],
)
def test_lists_of_nodes_that_are_wrong(nodes, path):
    """A reference goes to a node before; all else is an error with its path."""
    with pytest.raises(errors.ConfigError) as raised:
        ms.from_config({"nodes": nodes})
    assert str(raised.value).partition(": ")[0] == path


def test_references_outside_of_a_list():
    """A reference is only known inside of a list of nodes."""
    with pytest.raises(errors.ConfigError, match=r"^\$\.x\.node: 0 of type int is none of the 0 nodes"):
        ms.from_config({"name": "negative", "x": {"node": 0}})


def test_a_deep_chain_of_averages():
    """Averages nested beyond what Python's stack allows are an error, in a text and in a list of nodes."""
    nodes = [{"name": "swa"}, *({"name": "paced", "rule": {"node": i}} for i in range(5000))]
    with pytest.raises(errors.ConfigError, match="recursion"):
        ms.from_config({"nodes": nodes})


@pytest.mark.parametrize("cycles", [1001, 10_000, 100_000, 10**12])
def test_cycles_by_the_number(cycles):
    """Work that a number asks for, and not the length of the text, is refused at once."""
    text = f"cosine_restarts(0.1, 1, period_mul=1.0000001, cycles={cycles})"
    with pytest.raises(errors.ParseError, match="at most 1000 cycles"):
        ms.parse(text)
    with pytest.raises(errors.ScheduleOptionError, match="With period_mul=1 there may be any number"):
        ms.cosine_restarts(0.1, 1, period_mul=1.0000001, cycles=cycles)
    assert ms.parse(f"cosine_restarts(0.1, 10, cycles={cycles})")(5) == pytest.approx(0.05)
    assert ms.parse(f"cosine_restarts(0.1, 10, period_mul=2, cycles={cycles})")(5) == pytest.approx(0.05)
