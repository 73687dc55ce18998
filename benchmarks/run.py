"""All benchmarks, in one run; writes benchmarks/RESULTS.md.

python benchmarks/run.py
"""

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path

import documented
import drive
import import_time
import rules
import trees

PACKAGES = ("multisched", "numpy", "jax", "torch", "array-api-compat", "optax", "numba", "ema-pytorch", "torch-ema")


def main() -> None:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    processor = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    text = "\n\n".join(
        [
            "# Results of the benchmarks",
            "Written by `python benchmarks/run.py`, which `nox -s bench` runs. Medians of interleaved rounds in one "
            "run; only the ratios carry over to another machine.",
            f"{datetime.date.today()}, {processor}; {versions}.",
            "## One call of a documented function, beside the same thing by hand\n\n`python benchmarks/documented.py`",
            documented.report(["numpy", "jax", "torch"]),
            "## Time of `import multisched` beyond `import numpy`\n\n`python benchmarks/import_time.py`",
            import_time.report(),
            "## Rules, beside the same formula by hand and the schedules of others\n\n`python benchmarks/rules.py`",
            rules.report(),
            "## An optimizer step with three hyperparameters driven, beside LambdaLR and a loop by hand\n\n"
            "`python benchmarks/drive.py`",
            drive.report(),
            "## Averages of whole models, beside other libraries and one pass over the same bytes\n\n"
            '`python benchmarks/trees.py`; "the limit" is `lerp_` of one flat float32 array by all cores. On a GPU: '
            "[GPU.md](GPU.md).",
            trees.report(["torch", "jax", "numpy"]),
        ]
    )
    Path(__file__).with_name("RESULTS.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
