"""Checks of what averages of whole models ask of leaves, how they are written to, brought to the host and averaged."""

from functools import partial
from typing import Any

import numpy as np

from multisched.averages.ema import ema
from multisched.errors import DeviceError
from multisched.runtime.protocol import Backend
from multisched.testing.blending import expect_large
from multisched.testing.support import clause, expect_array, host_dtype, refused, require, sample, write_over
from multisched.trees.average import Average

_SHAPES = ((2, 3), (4,), (), (2, 3))


def _leaves(backend: Backend, dtype: str = "float32", shapes: tuple[tuple[int, ...], ...] = _SHAPES) -> list[Any]:
    return [backend.asarray(sample(dtype, shape, i), dtype) for i, shape in enumerate(shapes)]


# --- what is asked of leaves -----------------------------------------------------------------------------------------
@clause("Backend.container")
def arrays_are_no_containers(backend: Backend) -> None:
    """None for anything but a container of the framework's own: an array, what Python has, any object."""
    array = backend.asarray(1.0, "float32")
    for node in (array, np.ones(2), 1.0, "x", object(), [array], (array,), {"w": array}):
        require(backend.container(node) is None, f"container({node!r})", None, "a container")


@clause("Backend.signature")
def signature_tells_leaves_apart(backend: Backend) -> None:
    """Equal to that of other leaves only if those are of the same shapes and dtypes; or None."""
    found = backend.signature(_leaves(backend))
    if found is None:
        return  # each leaf is looked at
    others = {
        "of another shape": _leaves(backend, shapes=((2, 3), (4,), (1,), (2, 3))),
        "of as many elements in another shape": _leaves(backend, shapes=((3, 2), (4,), (), (2, 3))),
        "in another order": _leaves(backend, shapes=((4,), (2, 3), (), (2, 3))),
        "one less": _leaves(backend)[:-1],
        "of another dtype": [*_leaves(backend)[:-1], *_leaves(backend, "int32")[-1:]],
        "all of another dtype": _leaves(backend, "int32"),
    }
    for told, leaves in others.items():
        same = bool(found == backend.signature(leaves))
        require(not same, f"leaves {told}", "a signature that differs", "an equal one")


@clause("Backend.addresses")
def addresses_tell_arrays_apart(backend: Backend) -> None:
    """The same for the same arrays, and others for other arrays or for data of another shape in them; or None."""
    leaves, others = _leaves(backend), _leaves(backend, "int32")
    found = backend.addresses(leaves)
    if found is None:
        return  # each leaf is looked at
    require(bool(found == backend.addresses(leaves)), "the same arrays", found, backend.addresses(leaves))
    for i, other in enumerate(others):
        exchanged = [*leaves[:i], other, *leaves[i + 1 :]]
        require(bool(found != backend.addresses(exchanged)), f"another array {i}", "other addresses", "the same")
    if hasattr(leaves[0], "requires_grad_"):  # the data of these arrays can be exchanged
        leaves[0].data = leaves[0].data[:1]
        told = "an array whose data is now the first row of what it was"
        require(bool(found != backend.addresses(leaves)), told, "other addresses", "the same")


@clause("Backend.placed")
def placed_is_that_of_like_arrays(backend: Backend) -> None:
    """Hashable, and equal for arrays that lie alike, of whatever shape and dtype."""
    arrays = [*_leaves(backend), backend.asarray(sample("int32"), "int32")]
    places = [backend.placed(array) for array in arrays]
    require(len(set(places)) == 1, f"float32 arrays of shapes {_SHAPES}, and one of int32", "one place", places)


@clause("Backend.pack_key")
def pack_key_is_that_of_like_arrays(backend: Backend) -> None:
    """Hashable, equal for arrays of any shape that may lie in one buffer, and not for those of two dtypes; or None."""
    keys = [backend.pack_key(leaf) for leaf in _leaves(backend)]
    require(len(set(keys)) == 1, f"float32 arrays of shapes {_SHAPES}", "one key", keys)
    for dtype in ("int32", "bool", "float64", "float16"):
        if keys[0] is not None and backend.supports(dtype):
            other = backend.pack_key(backend.asarray(sample(dtype), dtype))
            require(other != keys[0], f"float32 and {dtype}", "two keys", keys[0])


@clause("Backend.local, Backend.spread, Backend.part_of")
def what_is_not_distributed_is_local(backend: Backend) -> None:
    """The part of an array that lies here is the array itself unless it is distributed, and `spread` is the inverse.

    No other process holds a part of it, which an adapter without `part_of` need not say.
    """
    for leaf in _leaves(backend):
        expected = backend.to_numpy(leaf)
        part = backend.local(leaf)
        require(part is leaf, f"local of an array of shape {leaf.shape}", "the array itself", part)
        elsewhere = getattr(backend, "part_of", lambda _: None)(leaf)
        require(elsewhere is None, f"part_of of an array of shape {leaf.shape}", None, elsewhere)
        other = backend.asarray(expected + 1, "float32")
        for given, like, value in ((part, leaf, expected), (other, leaf, expected + 1)):
            told = f"spread of an array of shape {tuple(leaf.shape)}"
            expect_array(backend, told, backend.spread(given, like), value, "float32")


# --- arrays elsewhere ------------------------------------------------------------------------------------------------
@clause("Backend.beside")
def beside_is_in_the_dtype_of_its_like(backend: Backend) -> None:
    """An array of the backend or of NumPy, in the dtype of `like` and where `like` is."""
    for dtype, given in (("float32", "float32"), ("float32", "int32"), ("int32", "int32"), ("bfloat16", "float32")):
        if not backend.supports(dtype):
            continue
        for shape in ((2, 3), ()):
            value, like = sample(given, shape, 1), backend.asarray(sample(dtype, (4,)), dtype)
            for source in (value, backend.asarray(value, given)):
                found = backend.beside(source, like)
                told = f"a {type(source).__name__} of {given}{shape} beside {dtype}"
                expect_array(backend, told, found, value.astype(host_dtype(dtype)), dtype)
                require(backend.owns(found) is True, told, "an array of the backend", type(found))
                there = backend.device_of(found)
                require(there == backend.device_of(like), told, f"an array on {backend.device_of(like)}", there)


@clause("Backend.write, Backend.in_place")
def write_writes_or_refuses(backend: Backend) -> None:
    """Overwrite an array of the user's in place, also in another dtype of the kind; a `TypeError` where none can be."""
    for dtype, given in (("float32", "float32"), ("bfloat16", "float32"), ("float32", "float64"), ("int32", "int32")):
        if not (backend.supports(dtype) and backend.supports(given)):
            continue
        for shape in ((2, 3), (), (0, 3)):
            target = backend.asarray(sample(dtype, shape), dtype)
            new = sample(given, shape, 1)
            value, told = backend.asarray(new, given), f"write of {given}{shape} to {dtype}"
            if not backend.in_place:
                refused(TypeError, told, partial(backend.write, target, value))
                expect_array(backend, f"{told}, afterwards", target, sample(dtype, shape), dtype)
                continue
            backend.write(target, value)
            expect_array(backend, told, target, new.astype(backend.to_numpy(target).dtype), dtype)
            write_over(backend, value)
            expect_array(
                backend, f"{told}, that changed later", target, new.astype(backend.to_numpy(target).dtype), dtype
            )


@clause("Backend.write")
def write_is_not_recorded(backend: Backend) -> None:
    """Out of sight of autograd: a parameter that records can be written, and records as before."""
    target = backend.asarray(sample("float32"), "float32")
    if not (backend.in_place and hasattr(target, "requires_grad_")):
        return  # the arrays of this framework carry no gradient
    target.requires_grad_()
    value = backend.asarray(sample("float32", (2, 3), 1), "float32").requires_grad_()
    for source in (value, value * 2):
        backend.write(target, source)
        expect_array(backend, "write to an array that records", target, backend.to_numpy(source), "float32")
        require(target.requires_grad and target.grad_fn is None, "write", "no record of it", target.grad_fn)


@clause("Backend.stage")
def stage_brings_arrays_to_the_host(backend: Backend) -> None:
    """`take` gives what was put, on the device "cpu", though it was overwritten since; again and again.

    A backend without a device of that name raises `DeviceError`.
    """
    try:
        stage = backend.stage()
    except DeviceError:
        refused(DeviceError, "device('cpu'), as stage() is refused", lambda: backend.device("cpu"))
        return
    for start, shapes in ((0, _SHAPES), (3, _SHAPES), (1, ((2,),))):
        for dtype in ("float32", "int32", "bool"):
            values = [sample(dtype, shape, start + i) for i, shape in enumerate(shapes)]
            arrays = [backend.asarray(value, dtype) for value in values]
            stage.put(arrays)
            for array in arrays:
                write_over(backend, array)
            taken = stage.take()
            require(len(taken) == len(values), f"{len(values)} arrays put", "as many", len(taken))
            for array, value in zip(taken, values, strict=True):
                told = f"what take() gives for {dtype}{value.shape}, overwritten since put()"
                expect_array(backend, told, array, value, dtype)
                there, here = backend.device_of(array), backend.device_of(backend.asarray(value, dtype, "cpu"))
                require(there == here, told, f"an array on {here}", there)


@clause("Backend.stage")
def stage_moves_scalars(backend: Backend) -> None:
    """`moved` gives a scalar array on the host, and anything else as it is."""
    try:
        stage = backend.stage()
    except DeviceError:
        return  # there is no device "cpu"
    for value in (None, 0.5, 1, True):
        require(stage.moved(value) is value, f"moved({value!r})", "itself", stage.moved(value))
    for dtype in ("float32", "int32", "bool"):
        found = stage.moved(backend.asarray(1, dtype))
        expect_array(backend, f"moved of a {dtype} scalar", found, np.ones((), dtype), dtype)
        here = backend.device_of(backend.asarray(1, dtype, "cpu"))
        require(backend.device_of(found) == here, f"moved of a {dtype} scalar", f"on {here}", backend.device_of(found))


# --- the whole -------------------------------------------------------------------------------------------------------
@clause("Backend")
def models_are_averaged(backend: Backend) -> None:
    """`multisched.Average` follows a tree of arrays, large and small, and copies what has no mean."""

    def tree(step: int) -> dict[str, Any]:
        large = np.full(20_000, 2.0 * step)
        small = [backend.asarray(sample("float32", shape, step), "float32") for shape in _SHAPES]
        return {"large": backend.asarray(large, "float32"), "small": small, "steps": backend.asarray(step, "int32")}

    average = Average(tree(0), ema(0.5), backend=backend)
    for step, where in ((1, None), (2, backend.asarray(True, "bool")), (3, backend.asarray(False, "bool"))):
        average.update(tree(step), where)
    told, found = "the average after two updates", average.value
    require(average.count == 2, told, "a count of 2", average.count)
    expect_large(told, backend.to_numpy(found["large"]), np.full(20_000, 3.0, np.float32))
    expect_array(backend, told, found["steps"], np.array(2), "int32")
    for shape, array in zip(_SHAPES, found["small"], strict=True):
        expected = 0.5 * (sample("float32", shape, 1) + sample("float32", shape, 2))
        expect_array(backend, told, array, np.asarray(expected), "float32")


CHECKS = (
    arrays_are_no_containers,
    signature_tells_leaves_apart,
    addresses_tell_arrays_apart,
    placed_is_that_of_like_arrays,
    pack_key_is_that_of_like_arrays,
    what_is_not_distributed_is_local,
    beside_is_in_the_dtype_of_its_like,
    write_writes_or_refuses,
    write_is_not_recorded,
    stage_brings_arrays_to_the_host,
    stage_moves_scalars,
    models_are_averaged,
)
