"""Leaves in whatever layout and number, packed together or alone: the fast ways give what the array API gives."""

import array_api_compat.numpy
import numpy as np
import pytest
from helpers import make, to_numpy
from helpers_average import near, weighted
from helpers_laws import law
from hypothesis import given, settings
from hypothesis import strategies as st
from multisched_backends.array_api import blended

import multisched as ms
from multisched.trees.packing import LARGEST, SMALL, grouped

SHAPES = st.sampled_from([(), (0,), (1,), (7,), (2, 3), (3, 0, 2), (SMALL,), (SMALL + 1,), (130, 127)])


# --- groups ----------------------------------------------------------------------------------------------------------
@given(
    shapes=st.lists(SHAPES, max_size=60),
    keys=st.lists(st.sampled_from(["a", "b", None]), min_size=60, max_size=60),
)
def test_each_leaf_lies_in_one_group(shapes, keys):
    """Groups hold each leaf once; packs hold small leaves of one key, in runs of one shape, within the limit."""
    keys = keys[: len(shapes)]
    groups = grouped(shapes, keys)
    assert sorted(i for group in groups for i in group.leaves) == list(range(len(shapes)))
    for group in groups:
        sizes = [int(np.prod(shapes[i])) for i in group.leaves]
        assert group.packed == (len(sizes) > 1)
        assert all(len({shapes[i] for i in run}) == 1 for run in group.runs)
        assert len({shapes[run[0]] for run in group.runs}) == len(group.runs)
        if group.packed:
            (key,) = {keys[i] for i in group.leaves}
            assert key is not None
            assert max(sizes) <= SMALL
            assert sum(sizes) <= LARGEST


def test_small_leaves_of_one_key_share_a_buffer():
    """Leaves that can be packed are, up to the size of a buffer, and then another one is begun."""
    assert len(grouped([(16,)] * 1000, ["a"] * 1000)) == 1
    assert len(grouped([(SMALL,)] * (LARGEST // SMALL + 1), ["a"] * (LARGEST // SMALL + 1))) == 2


# --- blending --------------------------------------------------------------------------------------------------------
def blend_on(backend, old, runs, share, where):
    """`blend` of arrays of the host, on a backend and back."""
    adapter = ms.get_backend(backend)
    result = adapter.blend(
        [make(array, backend, array.dtype.name) for array in old],
        [[[make(leaf, backend, leaf.dtype.name) for leaf in run] for run in group] for group in runs],
        share,
        where,
    )
    return [to_numpy(array, backend) for array in result]


@settings(law, max_examples=12)
@given(
    shapes=st.lists(st.sampled_from([(), (0, 2), (5,), (2, 3), (SMALL + 3,)]), min_size=1, max_size=6),
    dtypes=st.sampled_from(
        [("float32", "float32"), ("float16", "float32"), ("float64", "float64"), ("int32", "int32")]
    ),
    share=st.sampled_from([None, 1.0, 0.0, 0.1, 0.75]),
    arrays=st.booleans(),
    where=st.sampled_from([None, True, False]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_fast_ways_give_what_the_array_api_gives(backend, shapes, dtypes, share, arrays, where, seed):
    """Packs and single leaves, shares and masks of host and device: `blend` of each backend is that of the base."""
    own, held = dtypes
    if held == "int32":
        share = None
    if not all(map(ms.get_backend(backend).supports, dtypes)):
        return
    rng = np.random.default_rng(seed)
    leaves = [np.asarray(rng.uniform(-9, 9, shape)).astype(own) for shape in shapes]
    groups = grouped(shapes, ["a"] * len(shapes))
    runs = [[[leaves[i] for i in run] for run in group.runs] for group in groups]
    sizes = [
        (sum(leaves[i].size for i in group.leaves),) if group.packed else shapes[group.leaves[0]] for group in groups
    ]
    old = [np.asarray(rng.uniform(-9, 9, size)).astype(held) for size in sizes]
    scalar = share if share is None or not arrays else make(share, backend, "float32")
    mask = None if where is None else make(where, backend, "bool")
    host_share = share if share is None or not arrays else np.float32(share)
    expected = blended(array_api_compat.numpy, old, runs, host_share, None if where is None else np.asarray(where))
    found = blend_on(backend, [array.copy() for array in old], runs, scalar, mask)
    for value, right, before in zip(found, expected, old, strict=True):
        assert value.dtype == right.dtype
        if share in (None, 0.0, 1.0) or where is False:
            assert value.tobytes() == right.tobytes()
        else:
            assert near(value, right.astype(np.float64), [before, right], 1)


# --- whole trees -----------------------------------------------------------------------------------------------------
MANY = [(SMALL - 1,)] * 20 + [(3,)] * 7 + [()] * 3 + [(0, 4)] * 2 + [(2, 5)] * 4 + [(SMALL + 1,), (300, 300)]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_many_leaves_are_averaged_each_by_itself(backend, dtype):
    """A tree that takes several buffers gives each leaf its own average back."""
    if not ms.get_backend(backend).supports(dtype):
        pytest.skip(f"{backend} has no {dtype}")
    rng = np.random.default_rng(0)
    moments = [[np.asarray(rng.standard_normal(shape)).astype(dtype) for shape in MANY] for _ in range(3)]
    trees = [[make(leaf, backend, dtype) for leaf in leaves] for leaves in moments]
    avg = ms.Average(trees[0], ms.ema(0.75))
    avg.update(trees[1])
    avg.update(trees[2], where=make(True, backend, "bool"))
    for i, value in enumerate(avg.snapshot().value):
        seen = [moments[1][i], moments[2][i]]
        assert near(to_numpy(value, backend), weighted(seen, [0.75, 0.25]), seen, 2), MANY[i]


LARGE = ((2**20 + 17,), (1025, 1030), (3, 2**18 + 5))


@pytest.mark.parametrize("shape", LARGE, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_large_leaves_are_averaged_to_their_last_element(backend, shape, dtype):
    """Arrays larger than what a backend works on at a time, or gives to one thread, are averaged as a whole."""
    if not ms.get_backend(backend).supports(dtype):
        pytest.skip(f"{backend} has no {dtype}")
    rng = np.random.default_rng(1)
    moments = [rng.standard_normal(shape, np.float32).astype(dtype) for _ in range(3)]
    trees = [{"w": make(value, backend, dtype)} for value in moments]
    avg = ms.Average(trees[0], ms.swa())
    for tree in trees:
        avg.update(tree)
    assert near(to_numpy(avg.snapshot().value["w"], backend), weighted(moments, [1 / 3] * 3), moments, 3)


# --- layouts ---------------------------------------------------------------------------------------------------------
NUMPY_LAYOUTS = {
    "Fortran": lambda x: np.asfortranarray(x),
    "transposed": lambda x: np.ascontiguousarray(x.T).T,
    "every other": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "backwards": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "unaligned": lambda x: np.frombuffer(b"-" + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
}


@pytest.mark.parametrize("shape", [(3, 5), (400, 321), (3, 200_000)], ids=str)
@pytest.mark.parametrize("layout", NUMPY_LAYOUTS.values(), ids=NUMPY_LAYOUTS)
@pytest.mark.parametrize("first", [None, "Fortran"], ids=["from C", "from Fortran"])
def test_numpy_arrays_of_any_layout(shape, layout, first):
    """Fortran order, strides, byte order and alignment of NumPy arrays change nothing in the numbers."""
    rng = np.random.default_rng(2)
    for dtype in ("float32", "float16", "complex64"):
        values = [rng.standard_normal(shape).astype(dtype) for _ in range(3)]
        avg = ms.Average({"w": values[0] if first is None else np.asfortranarray(values[0])}, ms.ema(0.75))
        for value in values[1:]:
            given_array = layout(value)
            before = given_array.tobytes()
            avg.update({"w": given_array})
            assert given_array.tobytes() == before
        assert near(avg.snapshot().value["w"], weighted(values[1:], [0.75, 0.25]), values, 2)


TORCH_LAYOUTS = {
    "channels_last": lambda torch, x: x.to(memory_format=torch.channels_last),
    "transposed": lambda torch, x: x.transpose(1, 3).contiguous().transpose(1, 3),
    "every other": lambda torch, x: x.repeat_interleave(2, -1)[..., ::2],
    "part": lambda torch, x: torch.cat([x, x], 1)[:, : x.shape[1]],
    "conjugated": lambda torch, x: torch.conj(torch.conj_physical(x)) if x.is_complex() else x,
}


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 64, 70, 71)], ids=str)
@pytest.mark.parametrize("layout", TORCH_LAYOUTS.values(), ids=TORCH_LAYOUTS)
@pytest.mark.parametrize("first", [None, "channels_last"], ids=["from contiguous", "from channels_last"])
def test_tensors_of_any_layout(torch, shape, layout, first):
    """The memory format of tensors, of first and later ones, changes nothing in the numbers, masked or not."""
    rng = np.random.default_rng(3)
    for dtype in ("float32", "float16", "complex64"):
        values = [rng.standard_normal(shape).astype(dtype) for _ in range(4)]
        tensors = [torch.from_numpy(value) for value in values]
        avg = ms.Average({"w": TORCH_LAYOUTS[first](torch, tensors[0]) if first else tensors[0]}, ms.ema(0.5))
        avg.update({"w": layout(torch, tensors[1])})
        avg.update({"w": layout(torch, tensors[2])})
        avg.update({"w": layout(torch, tensors[3])}, where=torch.tensor(True))
        assert near(avg.snapshot().value["w"].numpy(), weighted(values[1:], [0.25, 0.25, 0.5]), values, 3)


def test_expanded_and_long_strided_tensors(torch):
    """A tensor of stride 0, and one that is strided, long and cast, are averaged as the values that they show."""
    strided = torch.arange(0, 2**21 + 6, dtype=torch.float64)[::2]
    leaves = {"row": torch.arange(5.0).expand(4, 5), "long": strided.float().repeat_interleave(2)[::2], "cast": strided}
    avg = ms.Average(
        {"row": torch.zeros(4, 5), "long": torch.zeros(2**20 + 3), "cast": torch.zeros(2**20 + 3)}, ms.swa()
    )
    for _ in range(2):
        avg.update(leaves)
    assert torch.equal(avg.value["row"], leaves["row"])
    assert torch.equal(avg.value["long"].double(), strided)
    assert torch.equal(avg.value["cast"].double(), strided)
