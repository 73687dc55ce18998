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
            "`nox -s bench` runs `python benchmarks/run.py`, which writes this page. The times are medians. Ours "
            "takes turns with each other contender in one run, and a ratio has the quartiles over all rounds. On "
            "another machine the times differ; compare the ratios.",
            f"{datetime.date.today()}, {processor}; {versions}.",
            "## One call of a documented function, compared with the same code by hand\n\n"
            "`python benchmarks/documented.py`",
            documented.report(["numpy", "jax", "torch"]),
            "## Time of `import multisched` beyond `import numpy`\n\n`python benchmarks/import_time.py`",
            import_time.report(),
            "## Rules, compared with the same formula by hand and with other libraries\n\n`python benchmarks/rules.py`",
            rules.report(),
            "## An optimizer step with three driven hyperparameters, compared with LambdaLR and a loop by hand\n\n"
            "`python benchmarks/drive.py`",
            drive.report(),
            "## Averages of whole models, compared with other libraries and with one pass over the same bytes\n\n"
            '`python benchmarks/trees.py`. "The limit" is the time of torch\'s `lerp_` on one flat float32 array of '
            "the same size, with all cores. [GPU.md](GPU.md) has the results on a GPU.",
            trees.report(["torch", "jax", "numpy"]),
        ]
    )
    Path(__file__).with_name("RESULTS.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
