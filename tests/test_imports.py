"""`import multisched` is light: it imports no framework and nothing that only a part of it needs."""

import subprocess
import sys

import pytest

HEAVY = ("jax", "torch", "scipy", "matplotlib", "sklearn", "click", "pandas", "safetensors", "plotext", "ml_dtypes")
USES = {
    "import": "import multisched as ms",
    "rules": """
import multisched as ms, numpy as np
lr = 0.5 * ms.cosine(0.1, 100); lr(3); lr(np.arange(3))
rule = ms.ema(0.9); rule.step(rule.init(np.zeros(2, np.float32)), np.ones(2, np.float32))
""",
    "declared": """
import multisched as ms
var = ms.PiecewiseConstant(0.1, {4: 1, 8: 2}, backend="numpy")
ms.function(outputs=var, updates=ms.get_updates())()
""",
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_nothing_heavy_is_imported(use):
    """In a fresh process, neither the import nor the use on NumPy imports another framework or an optional package."""
    script = f"{use}\nimport sys\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


@pytest.mark.parametrize("module", ["integrations.drive", "integrations.keras", "cli", "testing"])
def test_what_fits_it_into_others_imports_them_late(module):
    """Modules about a framework can be imported without it."""
    script = f"import multisched.{module}, sys\nprint(*[n for n in ('jax', 'torch', 'keras') if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


@pytest.mark.parametrize("home", ["multisched", "multisched.trees", "multisched.trees.average"])
def test_an_average_attaches_wherever_it_is_imported_from(home):
    """Its method comes from a layer above, and does not depend on who has imported that."""
    script = f"""
from {home} import Average
from multisched.averages import swa
try: Average({{"w": __import__("numpy").zeros(2)}}, swa()).attach(None)
except Exception as error: print(type(error).__name__)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["OptimizerError"]
