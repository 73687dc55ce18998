"""The command line. A command is a file of this folder: `multisched plot` is the function `plot` of `plot.py`.

A file whose name begins with an underscore holds what several commands share. A command is imported when it is run or
when its help is shown, and imports frameworks, scikit-learn and Matplotlib only when it needs them, so that `--help` is
quick and works without them. An error that the user can put right is reported on stderr without a traceback: with exit
code 2 if the command was not typed right, with exit code 1 if something is missing on the machine.
"""

import importlib
import pkgutil

import click

import multisched as ms


class _Commands(click.Group):
    """The commands that stand in this folder."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = getattr(importlib.import_module(f"{__name__}.{cmd_name}"), cmd_name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(ms.__version__, prog_name="multisched")
def main() -> None:
    """Variables that update themselves online, the same on NumPy, JAX and PyTorch.

    A schedule is a number that depends on how many updates have happened. A statistic, such as a moving average,
    depends on the values seen so far. Declared as variables, both record their own updates, and you build functions
    with these updates or without them.

    \b
    See it work:              multisched demo
    The same on PyTorch:      multisched demo --backend torch
    Look at a schedule:       multisched plot "warmup(cosine(0.1, 1000), 100)"
    In your own code:         import multisched as ms
    """
