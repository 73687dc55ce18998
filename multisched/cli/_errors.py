"""What the commands share to report errors."""

import os
from pathlib import Path

import click


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def check_folder(path: Path) -> None:
    """Raise `click.BadParameter` if no file can be written to the folder of `path`: before the work, not after it."""
    if not path.parent.is_dir():
        raise click.BadParameter(f"There is no directory {str(path.parent)!r}.")
    if not os.access(path.parent, os.W_OK):
        raise click.BadParameter(f"You may not write to the directory {str(path.parent)!r}.")
