"""`as_keras` in Keras' own formats, there and back, and in `model.fit`, on each backend that Keras can run on here.

Each backend in a process of its own, since Keras has one for each process.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

OLD = Path(__file__).parents[1] / "old" / "0.1"

FIT = """
import os, sys
import keras
import numpy as np
import multisched as ms
from multisched.integrations.keras import as_keras

LR = ms.warmup(ms.cosine(0.5, 12), 3) + ms.piecewise_constant(0.0, {4: 0.25, 6: -0.125})
lr = as_keras(LR)
folder = sys.argv[1]
at = lambda path: os.path.join(folder, path)


class Rates(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        self.seen.append(float(self.model.optimizer.learning_rate))


def fit(model, jit):
    if keras.backend.backend() == "torch":  # whose compiler of C++ takes some ten seconds for a model
        model.jit_compile = jit
    # Of the mean of one output the gradient is the input, 1: the weight falls by the rate.
    rates, before = Rates(), float(model.get_weights()[0].item())
    x = np.ones((4, 1), "float32")
    model.fit(x, x, batch_size=1, shuffle=False, verbose=0, callbacks=[rates])
    return rates.seen, before - float(model.get_weights()[0].item())


def is_right(model, begin, jit=False):
    rates, fallen = fit(model, jit)
    expected = [LR(k) for k in range(begin, begin + 4)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)
    np.testing.assert_allclose(fallen, sum(expected), rtol=1e-5)
    assert int(model.optimizer.iterations) == begin + 4


@keras.saving.register_keras_serializable("tests")
def loss(y, output):
    return keras.ops.mean(output)


def build():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    return model


def same(again):
    assert again == lr and hash(again) == hash(lr) and repr(again) == repr(lr)
    assert type(again) is type(lr) and again.schedule == LR
    assert float(again(5)) == float(lr(5))
"""

ROUND_TRIPS = (
    FIT
    + """
import copy, json, pickle

# the schedule alone
schedules = keras.optimizers.schedules
same(type(lr).from_config(lr.get_config()))
same(schedules.deserialize(json.loads(json.dumps(schedules.serialize(lr)))))
same(keras.saving.deserialize_keras_object(json.loads(json.dumps(keras.saving.serialize_keras_object(lr)))))
same(pickle.loads(pickle.dumps(lr)))
same(copy.deepcopy(lr))
assert lr != as_keras(ms.constant(0.5)) and lr != LR

# what cannot be built from its text is an error that shows how to load the model without it
function = as_keras(ms.from_function(lambda step: 0.1 / (1 + step)))
for text in (function.get_config()["schedule"], "ema(0.9)", "piecewise_constant([1.0, 2.0], {})", 0.1):
    try:
        type(lr).from_config({"schedule": text})
    except ms.errors.ConfigError as error:
        assert "schedule" in str(error) and ("compile=False" in str(error) or text == 0.1), error
    else:
        raise AssertionError(text)

# in an optimizer
for kind in (keras.optimizers.SGD, keras.optimizers.AdamW):
    optimizer = kind(lr, use_ema=True)
    same(kind.from_config(optimizer.get_config())._learning_rate)
    again = keras.optimizers.deserialize(json.loads(json.dumps(keras.optimizers.serialize(optimizer))))
    same(again._learning_rate)

# in a compiled model, before it is saved and after
model = build()
model.compile(keras.optimizers.SGD(lr), loss)
is_right(model, 0, jit=True)
for name in sys.argv[2:]:
    model.save(at(name))
    loaded = keras.models.load_model(at(name))
    same(loaded.optimizer._learning_rate)
    if name.endswith(".keras"):  # what is loaded from the other, Keras itself cannot always go on training
        is_right(loaded, 4)
clone = keras.models.clone_model(model)
clone.compile(keras.optimizers.SGD.from_config(model.optimizer.get_config()), loss)
same(clone.optimizer._learning_rate)
is_right(clone, 0)
print("round")
"""
)

LOAD = (
    # a process that makes no schedule of multisched before it loads one, but imports the class
    FIT.replace("lr = as_keras(LR)", "from multisched.integrations.keras import MultischedSchedule")
    + """
model = keras.models.load_model(at("model.keras"))
is_right(model, 4)

# what 0.1 saved, and could not load
import json
old = json.load(open(sys.argv[3]))
schedule = ms.parse(old["text"])
assert keras.optimizers.schedules.deserialize(old["config"]) == as_keras(schedule)
model = keras.models.load_model(sys.argv[2])
assert model.optimizer._learning_rate.schedule == schedule
assert int(model.optimizer.iterations) == old["iterations"]
for now, before in zip(model.get_weights(), old["weights"]):
    np.testing.assert_allclose(now, before)
np.testing.assert_allclose(float(model.optimizer.learning_rate), schedule(old["iterations"]), rtol=1e-6)
model.jit_compile &= keras.backend.backend() != "torch"
model.fit(np.ones((4, 2)), np.ones((4, 1)), batch_size=1, verbose=0)
print("loaded")
"""
)


def run(framework, code, *arguments):
    """What the code prints, word by word, in a process whose Keras runs on this framework."""
    if importlib.util.find_spec("keras") is None:  # to import it here would choose its backend
        pytest.skip("the test is about keras, which is not installed")
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"Keras is to run on {framework}, which is not installed")
    environment = {**os.environ, "KERAS_BACKEND": framework, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


frameworks = pytest.mark.parametrize("framework", ["jax", "torch", "tensorflow"])


@frameworks
def test_there_and_back(framework, tmp_path):
    """The schedule alone, in optimizers and in models, gives the same numbers before it is saved and after.

    `model.fit` takes the rate schedule(k) at update k, and goes on from where it was saved, in this process and in
    another; models that 0.1 saved load, too.
    """
    formats = ["model.keras", *(["model.h5"] if importlib.util.find_spec("h5py") else [])]
    assert run(framework, ROUND_TRIPS, tmp_path, *formats)[-1] == "round"
    assert run(framework, LOAD, tmp_path, OLD / "model.keras", OLD / "keras.json")[-1] == "loaded"


EVERYTHING = """
import json, sys
import keras
import numpy as np
import multisched as ms
from multisched.integrations.keras import as_keras

for record in json.load(open(sys.argv[1])):
    lr = None if record["config"] is None else ms.parse(record["text"])
    if lr is None or lr.shape != ():
        continue
    for dtype in ("int64", "float32"):
        rates = [float(as_keras(lr)(keras.ops.convert_to_tensor(step, dtype))) for step in record["steps"]]
        np.testing.assert_allclose(rates, record["values"], rtol=0, atol=1e-6 * np.abs(record["values"]).max())
print("all")
"""


def test_every_schedule_in_tensorflow():
    """Whatever the catalogue and the dialects build has the values of the schedule itself, by `keras.ops`.

    The other frameworks have a namespace, in which schedules are tested elsewhere.
    """
    assert run("tensorflow", EVERYTHING, OLD / "schedules.json")[-1] == "all"
