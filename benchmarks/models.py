"""Trees of arrays of the shapes that models have, filled with random numbers."""

import math
from collections.abc import Iterator

import numpy as np

Shape = tuple[int, ...]


def gpt2(layers: int = 12, width: int = 768, words: int = 50257, positions: int = 1024) -> list[Shape]:
    """The shapes of GPT-2: by default the small one, 148 arrays of 124 million numbers."""
    return [(words, width), (positions, width), *_blocks(layers, width), (width,), (width,)]


def _blocks(layers: int, width: int) -> Iterator[Shape]:
    for _ in range(layers):
        yield from ((width,), (width,), (width, 3 * width), (3 * width,), (width, width), (width,))
        yield from ((width,), (width,), (width, 4 * width), (4 * width,), (4 * width, width), (width,))


def size(shapes: list[Shape]) -> int:
    """How many numbers the arrays have together."""
    return sum(math.prod(shape) for shape in shapes)


def arrays(shapes: list[Shape], seed: int = 0) -> list[np.ndarray]:
    """Random arrays, float32."""
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape, dtype=np.float32) for shape in shapes]
