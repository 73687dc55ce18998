"""What `multisched demo` runs: the documented examples as a console shows them, and a classifier that learns."""

import math

import numpy as np
import pytest
from helpers import DOCUMENTED_EMA, ulps
from test_documented import PRINTED_EMA, PRINTED_PIECEWISE, PRINTED_STEPS

import multisched as ms
from multisched import demo

STEPS = 1000
CHECKED = 40


@pytest.fixture(scope="module")
def digits():
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn, of the extra demo")
    return demo.load_digits(seed=0)


@pytest.fixture(scope="module")
def reference(digits):
    """The same training in double precision, written out by hand."""
    return by_hand(digits, STEPS, seed=0)


def by_hand(digits, steps, seed):
    """The losses, weights, averages and accuracies of each step."""
    W, b = np.zeros((64, 10)), np.zeros(10)  # noqa: N806
    average, found = None, []
    test = digits.test.images.astype(float)
    for step, (images, labels) in enumerate(demo.batches(digits.train, steps, seed)):
        rate = 3.0 if step < steps // 2 else 0.5 if step < 3 * steps // 4 else 0.1
        images = images.astype(float)
        scores = images @ W + b
        shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        loss = -np.mean([math.log(share[label]) for share, label in zip(shares, labels, strict=True)])
        wrong = shares - np.eye(10)[labels]
        W, b = W - rate * images.T @ wrong / len(labels), b - rate * wrong.mean(axis=0)  # noqa: N806
        alpha = min(0.99, (1 + step) / (10 + step))
        new = (W, b)
        if average is None:
            average = new
        average = tuple(alpha * a + (1 - alpha) * n for a, n in zip(average, new, strict=True))
        right = [np.mean(np.argmax(test @ w + c, axis=1) == digits.test.labels) for w, c in (new, average)]
        found.append((loss, rate, new, average, right))
    return found


# --- the examples ----------------------------------------------------------------------------------------------------
def test_the_first_example_prints_as_documented(backend):
    """The lines that the first example prints are the documented ones, after the statements as they are typed."""
    lines = list(demo.transcript(demo.EXAMPLES["PiecewiseConstant"], backend))
    printed = [line for line in lines if not line.startswith((">>> ", "... "))]
    assert printed == [PRINTED_PIECEWISE, *PRINTED_STEPS.splitlines()]
    assert [line[4:] for line in lines if line not in printed] == demo.EXAMPLES["PiecewiseConstant"].splitlines()


def test_the_second_example_prints_as_documented(backend):
    """The updates are the documented ones, and each number is within 4 units in the last place of the documented."""
    lines = list(demo.transcript(demo.EXAMPLES["ExponentialMovingAverage"], backend))
    assert PRINTED_EMA in lines
    numbers = [np.array(line.strip("[]").split(), np.float32) for line in lines if line.startswith("[")]
    assert ulps(np.stack(numbers), DOCUMENTED_EMA) <= 4


def test_an_example_leaves_its_caller_alone():
    """The graph, the backend in use and NumPy's random numbers are as before, though the example sets all three."""
    before, kept = np.random.get_state()[1].tolist(), ms.Variable(0.0, name="kept")
    for source in demo.EXAMPLES.values():
        list(demo.transcript(source, "numpy"))
    assert np.random.get_state()[1].tolist() == before
    assert ms.get_variables() == [kept]


# --- the data --------------------------------------------------------------------------------------------------------
def test_the_digits(digits):
    """1347 images to learn from and 450 others to test with, from 0 to 1, all ten digits in both parts."""
    assert digits.train.images.shape == (1347, 64)
    assert digits.test.images.shape == (450, 64)
    both = np.concatenate([digits.train.images, digits.test.images])
    assert (both.dtype, both.min(), both.max()) == (np.float32, 0, 1)
    datasets = pytest.importorskip("sklearn.datasets", reason="of the extra demo")
    images, labels = datasets.load_digits(return_X_y=True)
    rows = sorted((*image, label) for image, label in zip((images / 16).tolist(), labels.tolist(), strict=True))
    found = np.concatenate([digits.train.labels, digits.test.labels]).tolist()
    assert sorted((*image, label) for image, label in zip(both.tolist(), found, strict=True)) == rows
    assert set(digits.test.labels.tolist()) == set(range(10))


def test_the_seed_decides(digits):
    """The same seed gives the same split and batches, another one others."""
    same, other = demo.load_digits(0), demo.load_digits(1)
    assert np.array_equal(same.test.images, digits.test.images)
    assert not np.array_equal(other.test.images, digits.test.images)
    first, second, third = (list(demo.batches(digits.train, 3, seed)) for seed in (0, 0, 1))
    assert all(np.array_equal(a.labels, b.labels) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0].images, third[0].images)


# --- the classifier --------------------------------------------------------------------------------------------------
def test_it_trains_as_by_hand(backend, digits, reference):
    """Losses, rates, weights and averaged weights of the first steps are those of the training by hand in float64."""
    classifier = demo.declare_classifier(STEPS)
    drawn = demo.batches(digits.train, STEPS, seed=0)
    averaged = {v.shape: v for v in ms.get_variables(name="EMA")}
    for step, (batch, expected) in enumerate(zip(drawn, reference[:CHECKED], strict=False)):
        loss, rate = classifier.train(*batch, device_get=True)
        wanted_loss, wanted_rate, new, average, _ = expected
        assert float(rate) == wanted_rate
        np.testing.assert_allclose(loss, wanted_loss, rtol=1e-3, err_msg=f"loss of step {step}")
        found = [ms.get_backend(backend).to_numpy(v.value) for v in (classifier.W, classifier.b)]
        found += [ms.get_backend(backend).to_numpy(averaged[shape].value) for shape in ((64, 10), (10,))]
        for ours, theirs in zip(found, (*new, *average), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-4, err_msg=f"after step {step}")


def test_evaluation_changes_nothing(backend, digits):
    """The function that takes the accuracies, called between two steps, leaves every variable as it was."""
    classifier = demo.declare_classifier(STEPS)
    batch = next(demo.batches(digits.train, 1, seed=0))
    classifier.train(*batch)
    to_numpy = ms.get_backend(backend).to_numpy
    before = {v: to_numpy(v.value).tolist() for v in ms.get_variables()}
    first, again = (classifier.evaluate(*digits.test, device_get=True) for _ in range(2))
    assert [float(a) for a in first] == [float(a) for a in again]
    assert {v: to_numpy(v.value).tolist() for v in ms.get_variables()} == before
    assert np.any(before[classifier.W])  # something had been learnt


def test_the_accuracies(backend, digits, reference):
    """Last and averaged weights end above 0.93, each within 0.0025 of the training by hand: backends within 0.005."""
    history = demo.run(digits, backend, STEPS, seed=0)
    last, averaged = reference[-1][-1]
    assert min(history.last[-1], history.averaged[-1]) > 0.93
    assert abs(history.last[-1] - last) <= 0.0025
    assert abs(history.averaged[-1] - averaged) <= 0.0025
    assert history.rates == [np.float32(rate) for _, rate, *_ in reference]
    assert len(history.losses) == STEPS
    assert history.evaluated == list(range(10, STEPS + 1, 10))


def test_the_average_is_steadier_than_the_weights(digits):
    """While the rate is bold, the accuracy of the averaged weights varies less from one evaluation to the next."""
    history = demo.run(digits, "numpy", STEPS, seed=0)
    last, averaged = (np.abs(np.diff(values[20:50])).mean() for values in (history.last, history.averaged))
    assert averaged < last / 2


def test_the_same_seed_gives_the_same_history(digits):
    """Two runs on one backend agree to the bit; one of another seed does not."""
    first, again, other = (demo.run(digits, "numpy", 20, seed) for seed in (3, 3, 4))
    assert first == again
    assert first.losses != other.losses


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 101])
def test_any_number_of_steps(digits, steps):
    """However few the steps, each is trained and the last is evaluated."""
    history = demo.run(digits, "numpy", steps, seed=0)
    assert len(history.losses) == len(history.rates) == steps
    assert history.evaluated[-1] == steps
    assert len(history.last) == len(history.averaged) == len(history.evaluated)


def test_a_run_leaves_the_graph_of_its_caller(digits):
    """The classifier is declared in a graph of its own."""
    demo.run(digits, "numpy", 1, seed=0)
    assert ms.get_variables() == []


# --- the picture -----------------------------------------------------------------------------------------------------
HISTORY = demo.History([3.0] * 5 + [0.5] * 5, [1.0] * 10, [2, 6, 10], [0.5, 0.9, 0.96], [0.4, 0.92, 0.95])


@pytest.fixture
def figure():
    pytest.importorskip("matplotlib", reason="the picture is drawn by matplotlib, of the extra demo")
    from multisched.plotting import draw

    return draw(HISTORY, "A title")


def test_the_picture_shows_the_history(figure):
    """The curves are the accuracies at their steps, the stairs are the rates, and all of it is named."""
    top, bottom = figure.axes
    curves = {line.get_label().split()[0]: line for line in top.get_lines()}
    for name, values in (("last", HISTORY.last), ("averaged", HISTORY.averaged)):
        assert curves[name].get_xdata().tolist() == HISTORY.evaluated
        assert curves[name].get_ydata().tolist() == values
    (stairs,) = bottom.patches
    assert stairs.get_data().values.tolist() == HISTORY.rates
    assert stairs.get_data().edges.tolist() == list(range(11))
    assert figure.get_suptitle() == "A title"
    assert [text.get_text() for text in bottom.texts] == ["3", "0.5"]
    assert bottom.get_xlabel() == "Training step"
    assert all(axes.get_ylabel() for axes in figure.axes)
    assert [t.get_text() for t in top.get_legend().get_texts()] == [line.get_label() for line in curves.values()]


@pytest.mark.parametrize("rates", [[3.0], [3.0, 0.5, 0.1], [0.1] * 200])
def test_the_picture_is_a_png_of_1200_by_900(tmp_path, rates):
    """What is saved is a PNG file of that size, for runs of one step and of many."""
    pytest.importorskip("matplotlib", reason="the picture is drawn by matplotlib, of the extra demo")
    from multisched.plotting import draw, save

    n = len(rates)
    history = demo.History(rates, [1.0] * n, list(range(1, n + 1)), [0.1] * n, [0.2] * n)
    save(draw(history, "A title"), tmp_path / "plot.png")
    content = (tmp_path / "plot.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")) == (1200, 900)


def test_the_picture_does_not_touch_pyplot(figure, tmp_path):
    """The figure is its own: none is open in pyplot, whose state belongs to the caller."""
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="of the extra demo")
    assert pyplot.get_fignums() == []
