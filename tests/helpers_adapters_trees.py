"""Adapters that break what averages of whole models need, each in one way, and the check that must notice."""

import sys

import numpy as np

from multisched.runtime.registry import get_backend

NUMPY = type(get_backend("numpy"))
HALF = 2**19


# --- methods with one defect -----------------------------------------------------------------------------------------
def mapped(function):
    """The method `blend` of leaves that something is done to first, in the light of the array that they belong to."""

    def blend(self, old, new, share, where=None):
        changed = [
            [[function(leaf, array, runs) for leaf in run] for run in runs]
            for array, runs in zip(old, new, strict=True)
        ]
        return NUMPY.blend(self, old, changed, share, where)

    return blend


def blend_the_rest(self, old, new, share, where=None):
    return NUMPY.blend(self, old, new, share if share is None else 1 - share, where)


def blend_by_float32(self, old, new, share, where=None):
    return NUMPY.blend(self, old, new, share if share is None else np.float32(share), where)


def blend_by_formula(self, old, new, share, where=None):
    if share is None:
        return NUMPY.blend(self, old, new, share, where)
    for array, runs in zip(old, new, strict=True):
        value = np.concatenate([leaf.reshape(-1) for run in runs for leaf in run]).reshape(array.shape)
        array[...] = array + np.float32(share) * (value - array)
    return old


def blend_always(self, old, new, share, where=None):
    return NUMPY.blend(self, old, new, share)


def blend_by_nothing(self, old, new, share, where=None):
    stays = where is not None and not where
    how = (1e-9,) if stays and share is not None else (share, where)
    return NUMPY.blend(self, old, new, *how)


def blend_copies_of_old(self, old, new, share, where=None):
    return NUMPY.blend(self, [array.copy() for array in old], new, share, where)


def blend_views(self, old, new, share, where=None):
    blended = NUMPY.blend(self, old, new, share, where)
    taken = share is None or share == 1
    return [
        runs[0][0][...] if taken and runs[0][0].shape == a.shape else a for a, runs in zip(blended, new, strict=True)
    ]


def blend_nothing(self, old, new, share, where=None):
    return old


def blend_one_block(self, old, new, share, where=None):
    if old[0].ndim != 2 or not old[0].flags.c_contiguous:
        return NUMPY.blend(self, old, new, share, where)
    NUMPY.blend(self, [old[0][:, : 2 * HALF]], [[[new[0][0][0][:, : 2 * HALF]]]], share, where)
    return old


def step_by_array(self, step, old, new, *scalars):
    """Positions that begin again for each array."""
    each = zip(old, new, strict=True)
    return [NUMPY.blend_by(self, step, [parts], [runs], *scalars)[0] for parts, runs in each]


def step_by_block(self, step, old, new, *scalars):
    """Positions that begin again for each block."""
    for parts, ((leaf,),) in zip(old, new, strict=True):
        for at in range(0, leaf.size, HALF):
            block = slice(at, at + HALF)
            NUMPY.blend_by(self, step, [tuple(part[block] for part in parts)], [[[leaf[block]]]], *scalars)
    return old


def step_of_one_part(self, step, old, new, *scalars):
    kept = [[part.copy() for part in parts[1:]] for parts in old]
    blended = NUMPY.blend_by(self, step, old, new, *scalars)
    return [(parts[0], *rest) for parts, rest in zip(blended, kept, strict=True)]


def step_without_scalars(self, step, old, new, *scalars):
    return NUMPY.blend_by(self, step, old, new, *(0 for _ in scalars))


def step_of_casts(self, step, old, new, *scalars):
    cast = [[[leaf.astype(p[0].dtype) for leaf in run] for run in runs] for p, runs in zip(old, new, strict=True)]
    return NUMPY.blend_by(self, step, old, cast, *scalars)


def step_of_copies(self, step, old, new, *scalars):
    return NUMPY.blend_by(self, step, [tuple(part.copy() for part in parts) for parts in old], new, *scalars)


def torch_records(self, old, new, share, where=None):
    return [array + sum(leaf.sum() for run in runs for leaf in run) for array, runs in zip(old, new, strict=True)]


def torch_steps_record(self, step, old, new, *scalars):
    return [(torch_records(self, [parts[0]], [runs], None)[0],) for parts, runs in zip(old, new, strict=True)]


def write_unsafely(self, target, value):
    target[...] = value.view(target.dtype) if value.dtype.itemsize == target.dtype.itemsize else 0


class Late:
    """A stage that copies nothing before it has to."""

    def put(self, arrays):
        self.arrays = arrays

    def take(self):
        return [array.copy() for array in self.arrays]

    def moved(self, scalar):
        return scalar


class Once(Late):
    """A stage that keeps what it was given first."""

    arrays = None

    def put(self, arrays):
        self.arrays = self.arrays or [array.copy() for array in arrays]


class Eager(Late):
    """A stage that makes a number of every scalar."""

    def moved(self, scalar):
        return scalar if scalar is None else float(scalar)


class Numbers(Late):
    """A stage that makes numbers of the arrays among scalars."""

    def moved(self, scalar):
        return scalar.astype("float32") if isinstance(scalar, np.ndarray) else scalar


OF_TREES = {  # what is wrong: (the check that notices, members of the adapter)
    "the share of what is held": ("blend_moves_by_the_share", {"blend": blend_the_rest}),
    "shares in single precision": ("blend_moves_by_the_share", {"blend": blend_by_float32}),
    "one number for all of a leaf": (
        "blend_moves_by_the_share",
        {"blend": mapped(lambda leaf, array, runs: np.full_like(leaf, np.max(runs[0][0], initial=0)))},
    ),
    "nothing exact at a share of 1": ("blend_copies", {"blend": blend_by_formula}),
    "leaves in the dtype of the first": (
        "blend_takes_other_dtypes",
        {"blend": mapped(lambda leaf, array, runs: leaf.astype(runs[0][0].dtype))},
    ),
    "where ignored": ("blend_stays_where_false", {"blend": blend_always}),
    "next to no share beside NaN": ("blend_stays_where_false", {"blend": blend_by_nothing}),
    "new arrays, in place": ("blend_writes_in_place", {"blend": blend_copies_of_old}),
    "views of leaves": ("blend_shares_no_memory", {"blend": blend_views}),
    "leaves in the order of memory": (
        "blend_takes_large_and_transposed_leaves",
        {"blend": mapped(lambda leaf, array, runs: np.ravel(leaf, order="K").reshape(leaf.shape))},
    ),
    "one block of a large leaf": ("blend_takes_large_and_transposed_leaves", {"blend": blend_one_block}),
    "positions within an array": ("blend_by_takes_each_step", {"blend_by": step_by_array}),
    "one part of two": ("blend_by_takes_each_step", {"blend_by": step_of_one_part}),
    "no scalars": ("blend_by_takes_each_step", {"blend_by": step_without_scalars}),
    "values cast before a step": ("blend_by_gives_values_in_their_dtype", {"blend_by": step_of_casts}),
    "positions within a block": ("blend_by_takes_large_leaves", {"blend_by": step_by_block}),
    "new arrays for parts, in place": ("blend_by_takes_large_leaves", {"blend_by": step_of_copies}),
    "arrays taken apart": ("arrays_are_no_containers", {"container": lambda self, node: node}),
    "lists taken apart": (
        "arrays_are_no_containers",
        {"container": lambda self, node: node if isinstance(node, list) else None},
    ),
    "a signature of shapes": ("signature_tells_leaves_apart", {"signature": lambda self, x: [a.shape for a in x]}),
    "a signature of dtypes": ("signature_tells_leaves_apart", {"signature": lambda self, x: [a.dtype for a in x]}),
    "a signature of sizes": (
        "signature_tells_leaves_apart",
        {"signature": lambda self, x: [(a.size, a.ndim, a.dtype) for a in x]},
    ),
    "a signature without order": (
        "signature_tells_leaves_apart",
        {"signature": lambda self, x: sorted((a.shape, a.dtype.name) for a in x)},
    ),
    "one address": ("addresses_tell_arrays_apart", {"addresses": lambda self, leaves: [0] * len(leaves)}),
    "another address at each call": (
        "addresses_tell_arrays_apart",
        {"addresses": lambda self, leaves: [object() for _ in leaves]},
    ),
    "a place for each array": ("placed_is_that_of_like_arrays", {"placed": lambda self, array: id(array)}),
    "a key for each array": ("pack_key_is_that_of_like_arrays", {"pack_key": lambda self, array: id(array)}),
    "a key for each shape": ("pack_key_is_that_of_like_arrays", {"pack_key": lambda self, array: array.shape}),
    "a key for all dtypes": ("pack_key_is_that_of_like_arrays", {"pack_key": lambda self, array: "cpu"}),
    "a key that is a list": ("pack_key_is_that_of_like_arrays", {"pack_key": lambda self, array: [array.dtype]}),
    "a copy for the part": ("what_is_not_distributed_is_local", {"local": lambda self, array: array.copy()}),
    "a whole array that is a part": ("what_is_not_distributed_is_local", {"part_of": lambda self, array: "a part"}),
    "spread as it was": ("what_is_not_distributed_is_local", {"spread": lambda self, part, like: like}),
    "beside in its own dtype": ("beside_is_in_the_dtype_of_its_like", {"beside": lambda self, value, like: value}),
    "nothing written": ("write_writes_or_refuses", {"write": lambda self, target, value: None}),
    "bits written": ("write_writes_or_refuses", {"write": write_unsafely}),
    "written though immutable": ("write_writes_or_refuses", {"in_place": False}),
    "copied when taken": ("stage_brings_arrays_to_the_host", {"stage": lambda self: Late()}),
    "what was put first": ("stage_brings_arrays_to_the_host", {"stage": lambda self: Once()}),
    "scalars made numbers": ("stage_moves_scalars", {"stage": lambda self: Eager()}),
    "scalars made floats": ("stage_moves_scalars", {"stage": lambda self: Numbers()}),
    "a model that stands still": ("models_are_averaged", {"blend": blend_nothing}),
}

OF_TREES_OF_FRAMEWORKS = {  # likewise, of the adapters that can have the defect
    "blended with a gradient": ("torch", "blends_record_nothing", {"blend": torch_records}),
    "a step with a gradient": ("torch", "blends_record_nothing", {"blend_by": torch_steps_record}),
    "written in sight of autograd": (
        "torch",
        "write_is_not_recorded",
        {"write": lambda self, target, value: target.copy_(value)},
    ),
    "written past the tape": (
        "torch",
        "write_is_not_recorded",
        {"write": lambda self, target, value: target.requires_grad_(False).copy_(value.detach())},
    ),
    "no tree told from an array": (
        "jax",
        "arrays_are_no_containers",
        {"container": lambda self, node: None if sys.modules["jax"].tree_util.all_leaves([node]) else node},
    ),
}
