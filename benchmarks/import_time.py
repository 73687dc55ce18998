"""Time of `import multisched` beyond `import numpy`, each in a fresh process.

python benchmarks/import_time.py
"""

import statistics
import subprocess
import sys

AIM_MS = 30.0
_TIMED = "import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"


def seconds(module: str) -> float:
    """What one import takes, in a process that has imported nothing but Python's own."""
    result = subprocess.run(
        [sys.executable, "-c", _TIMED.format(module=module)], capture_output=True, text=True, check=True
    )
    return float(result.stdout)


def medians(rounds: int = 15) -> tuple[float, float]:
    """(numpy, multisched), in ms, taking turns; the first round, which may compile to bytecode, does not count."""
    taken = [(seconds("numpy"), seconds("multisched")) for _ in range(rounds + 1)][1:]
    return statistics.median(a for a, _ in taken) * 1e3, statistics.median(b for _, b in taken) * 1e3


def report() -> str:
    numpy, multisched = medians()
    return "\n".join(
        [
            "| import | ms | beyond numpy, ms | aim |",
            "| --- | --- | --- | --- |",
            f"| numpy | {numpy:.0f} | | |",
            f"| multisched | {multisched:.0f} | {multisched - numpy:.0f} | at most {AIM_MS:.0f} |",
        ]
    )


if __name__ == "__main__":
    print(report())
