"""What `multisched demo` runs: the two documented examples, and a classifier that is declared variables throughout.

The classifier shows what the library is for. Its weights, its learning rate and the average of its weights are
variables of one graph; one function applies their updates, another only reads them. Everything random is drawn on the
host, so that the same seed gives every backend the same split and the same batches.
"""

import ast
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple, TypeAlias

import numpy as np

import multisched as ms
from multisched.arrays import Namespace

EXAMPLES = {
    "PiecewiseConstant": """\
import multisched as ms
ms.current_graph().reset()
var = ms.PiecewiseConstant(0.1, {4: 1, 8: 2})
print(ms.get_updates())
f = ms.function(outputs=var, updates=ms.get_updates())
for i in range(10):
    print(i, f(device_get=True))
""",
    "ExponentialMovingAverage": """\
import multisched as ms
import numpy as np
np.random.seed(0)
ms.current_graph().reset()
input = ms.Placeholder((2,), 'float32')
ema, var = ms.ExponentialMovingAverage(input, 0.9)
print(ms.get_updates())
f = ms.function(input, outputs=ema, updates=ms.get_updates())
for i in range(25):
    print(f(np.ones(2) + np.random.randn(2) * 0.3, device_get=True))
""",
}
"""The documented examples; `device_get` makes every backend's numbers print as NumPy's."""

STEPS = 1000
BATCH = 32
TEST_IMAGES = 450
DECAY = 0.99
"""The weight of the old average: it remembers about the last hundred updates."""


# --- the documented examples -----------------------------------------------------------------------------------------
def transcript(source: str, backend: Any = None) -> Iterator[str]:
    """Run `source` on a backend, in a graph of its own, and yield what a console shows: statements and output."""
    printed: list[str] = []
    names: dict[str, Any] = {"print": lambda *values: printed.append(" ".join(map(str, values)))}
    with ms.use_backend(backend), ms.Graph("example"), _same_random_numbers_afterwards():
        for statement in ast.parse(source).body:
            exec(compile(ast.Module([statement], []), "<example>", "exec"), names)
            printed[:0] = _as_typed(ast.get_source_segment(source, statement) or "")
            yield from printed
            printed.clear()


def _as_typed(statement: str) -> list[str]:
    return [f"{'...' if number else '>>>'} {line}" for number, line in enumerate(statement.splitlines())]


@contextmanager
def _same_random_numbers_afterwards() -> Iterator[None]:
    """An example seeds NumPy's global generator, which is its caller's."""
    state = np.random.get_state()
    try:
        yield
    finally:
        np.random.set_state(state)


# --- the data --------------------------------------------------------------------------------------------------------
class Batch(NamedTuple):
    """Images and what they show."""

    images: np.ndarray
    """One image of 8 x 8 pixels a row, from 0 to 1, shape `(n, 64)`, float32."""
    labels: np.ndarray
    """The digits, 0 to 9, shape `(n,)`, int32."""

    def take(self, rows: np.ndarray) -> "Batch":
        return Batch(self.images[rows], self.labels[rows])


class Digits(NamedTuple):
    """The UCI handwritten digits, in two parts that share no image."""

    train: Batch
    test: Batch


def load_digits(seed: int) -> Digits:
    """The digits that come with scikit-learn, split at random. Raises `ImportError` without scikit-learn."""
    from sklearn import datasets

    images, labels = datasets.load_digits(return_X_y=True)
    everything = Batch((images / 16).astype(np.float32), labels.astype(np.int32))
    order = np.random.default_rng([seed, 0]).permutation(len(labels))
    return Digits(everything.take(order[TEST_IMAGES:]), everything.take(order[:TEST_IMAGES]))


def batches(data: Batch, steps: int, seed: int) -> Iterator[Batch]:
    """As many batches as steps, each of images drawn at random."""
    draw = np.random.default_rng([seed, 1])
    for _ in range(steps):
        yield data.take(draw.integers(len(data.labels), size=BATCH))


# --- the model, declared ---------------------------------------------------------------------------------------------
class Classifier(NamedTuple):
    """Softmax regression: its variables, and the two functions of them."""

    W: ms.Variable
    b: ms.Variable
    train: ms.Function
    """`train(images, labels) -> (loss, learning rate)`, and one update of everything."""
    evaluate: ms.Function
    """`evaluate(images, labels) -> (accuracy of the last weights, accuracy of the averaged ones)`; changes nothing."""


def learning_rate(steps: int) -> tuple[float, dict[int, float]]:
    """What `PiecewiseConstant` takes: bold for half of the training, so that averaging matters, then careful."""
    return 3.0, {steps // 2: 0.5, 3 * steps // 4: 0.1}


def declare_classifier(steps: int) -> Classifier:
    """Declare the model and its training over a number of steps, in the current graph, for the backend in use."""
    images, labels = ms.Placeholder((BATCH, 64), name="images"), ms.Placeholder((BATCH,), "int32", name="labels")
    W = ms.Variable(np.zeros((64, 10), np.float32), name="W")  # noqa: N806  # as in images @ W + b
    b = ms.Variable(np.zeros(10, np.float32), name="b")
    lr = ms.PiecewiseConstant(*learning_rate(steps))
    loss, gradient_W, gradient_b = _loss_and_gradients(images, labels, W, b)  # noqa: N806
    new_W, new_b = W - lr * gradient_W, b - lr * gradient_b  # noqa: N806
    # The average is of the new weights, not of the variables. Outputs and updates are computed from the state before
    # the call: an average of W itself would always lack the latest weights, and would start from the zeros that W
    # holds before anything was learnt. This way fixed_ema, after a call, is of exactly the weights learnt so far.
    _, averaged_W = ms.ExponentialMovingAverage(new_W, DECAY, decay_min=True)  # noqa: N806
    _, averaged_b = ms.ExponentialMovingAverage(new_b, DECAY, decay_min=True)
    train = ms.function(images, labels, outputs=(loss, lr), updates={W: new_W, b: new_b, **ms.get_updates()})
    return Classifier(W, b, train, _declare_evaluation([(W, b), (averaged_W, averaged_b)]))


def _loss_and_gradients(images: ms.Tensor, labels: ms.Tensor, W: ms.Tensor, b: ms.Tensor) -> tuple[Any, Any, Any]:  # noqa: N803
    """The mean cross-entropy of a batch, and its gradients in W and b, by hand."""
    xp: Namespace = images.__array_namespace__()
    one_hot = xp.astype(labels[:, None] == xp.arange(10), xp.float32)
    scores = images @ W + b
    shifted = scores - xp.max(scores, axis=1, keepdims=True)  # so that exp cannot overflow
    log_softmax = shifted - xp.log(xp.sum(xp.exp(shifted), axis=1, keepdims=True))
    loss = -xp.mean(xp.sum(one_hot * log_softmax, axis=1))
    gradient_scores = (xp.exp(log_softmax) - one_hot) / BATCH
    return loss, images.T @ gradient_scores, xp.sum(gradient_scores, axis=0)


def _declare_evaluation(models: list[tuple[Any, Any]]) -> ms.Function:
    """The accuracies of several weights on the test images. It is given no updates, so it changes nothing."""
    images = ms.Placeholder((TEST_IMAGES, 64), name="test_images")
    labels = ms.Placeholder((TEST_IMAGES,), "int32", name="test_labels")
    xp: Namespace = images.__array_namespace__()
    right = [xp.argmax(images @ W + b, axis=1) == labels for W, b in models]
    return ms.function(images, labels, outputs=[xp.mean(xp.astype(r, xp.float32)) for r in right])


# --- training --------------------------------------------------------------------------------------------------------
class History(NamedTuple):
    """What happened: of each step, and of each evaluation, every hundredth of the way."""

    rates: list[float]
    """The learning rate of each step."""
    losses: list[float]
    """The loss of each step's batch, before its update."""
    evaluated: list[int]
    """After how many steps the test accuracy was taken."""
    last: list[float]
    """The test accuracy of the last weights."""
    averaged: list[float]
    """The test accuracy of the averaged weights."""


Progress: TypeAlias = Callable[[Iterator[Batch]], AbstractContextManager[Iterable[Batch]]]
"""Shows how far an iteration has come, such as `click.progressbar`."""


def train(classifier: Classifier, digits: Digits, drawn: Iterable[Batch], steps: int) -> History:
    """Train on the batches drawn, one a step."""
    history = History([], [], [], [], [])
    for done, batch in enumerate(drawn, start=1):
        loss, rate = classifier.train(*batch, device_get=True)
        history.losses.append(float(loss))
        history.rates.append(float(rate))
        if done % max(1, steps // 100) == 0 or done == steps:
            last, averaged = classifier.evaluate(*digits.test, device_get=True)
            history.evaluated.append(done)
            history.last.append(float(last))
            history.averaged.append(float(averaged))
    return history


def run(
    digits: Digits, backend: Any = None, steps: int = STEPS, seed: int = 0, progress: Progress = nullcontext
) -> History:
    """Declare and train a classifier on a backend, in a graph of its own; the caller's is as it was."""
    with ms.use_backend(backend), ms.Graph("digits"):
        classifier = declare_classifier(steps)
        with progress(batches(digits.train, steps, seed)) as drawn:
            return train(classifier, digits, drawn, steps)
