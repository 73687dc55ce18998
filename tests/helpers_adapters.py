"""Adapters that break the contract with backends, each in one way, and the check that must notice."""

import operator
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from helpers_adapters_trees import OF_TREES, OF_TREES_OF_FRAMEWORKS

from multisched.runtime.registry import get_backend

NUMPY = type(get_backend("numpy"))


def broken(base=NUMPY, **members):
    """An adapter like `base`, but for some members: functions become methods, anything else is set on the adapter."""
    methods = {name: member for name, member in members.items() if callable(member)}
    backend = type("Broken", (base,), methods)()
    for name in members.keys() - methods:
        setattr(backend, name, members[name])
    return backend


def framework(name):
    """The class of the adapter for a framework, where that is installed."""
    pytest.importorskip(name, reason=f"this defect can only be had on {name}, which is not installed")
    return type(get_backend(name))


def wrong(array):
    """Another array of the same shape and dtype."""
    array = np.asarray(array)
    return ~array if array.dtype == bool else array + np.ones((), array.dtype)


# --- methods with one defect -----------------------------------------------------------------------------------------
def in_memory_order(array):
    """Elements as they lie in memory, taken for those of a contiguous array."""
    return np.array(np.ravel(array, order="K").reshape(np.shape(array)))


def operation_with(**replaced):
    """The method `operation` with some functions replaced by what is made of them."""

    def operation(self, name):
        found = NUMPY.operation(self, name)
        return replaced[name](found) if name in replaced else found

    return operation


def compile_once(self, run, consumed, jit):
    kept = []

    def program(*arrays):
        kept[:] = kept or [run(*arrays)]
        return kept[0]

    return program


def compile_and_use_up(self, run, consumed, jit):
    def program(*arrays):
        results = run(*arrays)
        for array in arrays[consumed:]:
            array[...] = 0
        return results

    return program


def compile_into_one_buffer(self, run, consumed, jit):
    buffers = []

    def program(*arrays):
        results = run(*arrays)
        buffers[:] = buffers or [np.empty_like(result) for result in results]
        for buffer, result in zip(buffers, results, strict=True):
            buffer[...] = result
        return tuple(buffers)

    return program


def overwrite_nothing(self, cell, new):
    pass


def overwrite_by_exchange(self, cell, new):
    cell.array = new


def zeros_of(self, array):
    return np.asarray(array) * 0


def floats(self, value, dtype, device=None):
    return np.array(value, np.float64)


def itself(function):
    return lambda array: array


def into_argument(function):
    return lambda *arrays: function(*arrays, out=arrays[0])


def view_where(function):
    return lambda c, x, y: (x if c else y) if np.ndim(c) == 0 else function(c, x, y)


def torch_shares(self, cell, new):
    cell.array.copy_(new)
    cell.array.set_(new)


def torch_keeps_gradient(self, value, dtype, device=None):
    return value.clone() if self.owns(value) else framework("torch").asarray(self, value, dtype, device)


def jax_donates_more(self, run, consumed, jit):
    return sys.modules["jax"].jit(run, donate_argnums=range(consumed + 1))


def torch_detached(self, *args):
    base = framework("torch")
    return (base.copy(self, *args) if len(args) == 1 else base.as_input(self, *args)).detach()


NO_NAMESPACE = SimpleNamespace(__name__="nothing", asarray=np.asarray)
INT = "default_int_is_that_of_indices"

DEFECTS = {  # what is wrong: (the check that notices, members of the adapter)
    "no name": ("name_is_a_name", {"name": ""}),
    "a name that is no string": ("name_is_a_name", {"name": 7}),
    "no namespace": ("xp_is_a_namespace", {"xp": NO_NAMESPACE}),
    "foreign array types": ("array_types_are_those_of_arrays", {"array_types": (list,)}),
    "array types in a list": ("array_types_are_those_of_arrays", {"array_types": [np.ndarray]}),
    "scalars that do decay": ("scalars_decay_is_told", {"scalars_decay": False}),
    "in_place that is no bool": ("in_place_is_told", {"in_place": 1}),
    "the other default integer": (INT, {"default_int": "int32"}),
    "a default integer of its own": (INT, {"default_int": "int16"}),
    "unsigned sums denied": ("sums_unsigned_is_told", {"sums_unsigned": False}),
    "any dtype supported": ("dtypes_are_there_or_refused", {"supports": lambda self, dtype: True}),
    "nothing supported": ("dtypes_are_there_or_refused", {"supports": lambda self, dtype: False}),
    "one dtype for all": ("dtypes_are_there_or_refused", {"dtype": lambda self, name: np.dtype("float32")}),
    "any device": ("devices_are_found_or_refused", {"device": lambda self, device: device}),
    "a device that is none": ("devices_are_found_or_refused", {"device_of": lambda self, array: "nowhere"}),
    "scalars disowned": ("own_arrays_are_known", {"owns": lambda self, value: isinstance(value, np.ndarray)}),
    "anything owned": ("own_arrays_are_known", {"owns": lambda self, value: True}),
    "everything traced": ("tracers_are_known", {"is_traced": lambda self, value: True}),
    "strides ignored": (
        "asarray_takes_any_layout",
        {"asarray": lambda self, value, dtype, device=None: in_memory_order(value).astype(self.dtype(dtype))},
    ),
    "no lists": (
        "asarray_takes_lists_and_numbers",
        {"asarray": lambda self, value, dtype, device=None: np.array(value.astype(self.dtype(dtype)))},
    ),
    "dtypes kept": ("asarray_casts", {"asarray": lambda self, value, dtype, device=None: np.array(value)}),
    "memory of the host shared": (
        "asarray_copies_from_the_host",
        {"asarray": lambda self, value, dtype, device=None: np.asarray(value, self.dtype(dtype))},
    ),
    "memory of its own shared": (
        "asarray_copies_its_own",
        {"asarray": lambda self, value, dtype, device=None: np.asarray(value, self.dtype(dtype))},
    ),
    "inputs as they are": (
        "as_input_gives_what_programs_read",
        {"as_input": lambda self, value, dtype, device=None: value},
    ),
    "inputs used up": (
        "as_input_leaves_its_argument",
        {"as_input": lambda self, value, dtype, device=None: np.multiply(value, 0, out=value)},
    ),
    "the array itself on the host": ("to_numpy_copies", {"to_numpy": lambda self, array: np.asarray(array)}),
    "views misread": ("to_numpy_takes_views_and_scalars", {"to_numpy": lambda self, array: in_memory_order(array)}),
    "no copy": ("copy_shares_nothing", {"copy": lambda self, array: array}),
    "a view for a copy": ("copy_shares_nothing", {"copy": lambda self, array: np.asarray(array)[...]}),
    "no copy in programs": ("copy_shares_nothing", {"operation": operation_with(copy=itself)}),
    "values cast for bits": (
        "bitcast_reads_the_same_bits",
        {"bitcast": lambda self, array, dtype: array.astype(self.dtype(dtype))},
    ),
    "bits of any size": ("bitcast_refuses_other_sizes", {"bitcast": lambda self, array, dtype: array.view(dtype)}),
    "values stopped": ("stop_gradient_stops_gradients", {"stop_gradient": zeros_of}),
    "no cast": ("astype_casts", {"operation": operation_with(astype=lambda f: lambda x, dtype: np.array(x))}),
    "exp in its argument": ("fresh_results_are_their_own", {"operation": operation_with(exp=into_argument)}),
    "where without a copy": ("fresh_choices_are_their_own", {"operation": operation_with(where=view_where)}),
    "run only once": ("compile_computes_at_each_call", {"compile": compile_once}),
    "arguments used up": ("compile_computes_at_each_call", {"compile": compile_and_use_up}),
    "other arguments used up": ("compile_consumes_only_the_first", {"compile": compile_and_use_up}),
    "one buffer for all results": ("compile_consumes_only_the_first", {"compile": compile_into_one_buffer}),
    "no program without arguments": (
        "compile_takes_programs_of_any_form",
        {"compile": lambda self, run, consumed, jit: lambda first, *rest: run(first, *rest)},
    ),
    "nothing overwritten": ("overwrite_sets_the_value", {"overwrite": overwrite_nothing}),
    "exchanged, in place": ("overwrite_writes_in_place_or_exchanges", {"overwrite": overwrite_by_exchange}),
    "in place, exchanged": ("overwrite_writes_in_place_or_exchanges", {"in_place": False}),
    "snapshots that follow": ("overwrite_leaves_snapshots", {"copy": lambda self, array: array}),
    "a schedule that stands still": ("declared_schedules_run", {"overwrite": overwrite_nothing}),
    "an average that stands still": ("declared_averages_run", {"overwrite": overwrite_nothing}),
    "outputs overwritten": ("updates_are_simultaneous", {"compile": compile_into_one_buffer}),
    "floats for all": ("pure_rules_run", {"asarray": floats}),
    **OF_TREES,
}

OF_FRAMEWORKS = {  # likewise, of the adapters that can have the defect
    "no gradient stopped": ("torch", "stop_gradient_stops_gradients", {"stop_gradient": lambda self, array: array}),
    "gradients not stopped": ("jax", "stop_gradient_stops_gradients", {"stop_gradient": lambda self, array: array}),
    "copies without gradient": ("torch", "copies_and_inputs_pass_gradients", {"copy": torch_detached}),
    "inputs without gradient": ("torch", "copies_and_inputs_pass_gradients", {"as_input": torch_detached}),
    "state with a gradient": ("torch", "state_carries_no_gradient", {"asarray": torch_keeps_gradient}),
    "overwritten with a gradient": (
        "torch",
        "state_carries_no_gradient",
        {"overwrite": lambda self, cell, new: cell.array.copy_(new)},
    ),
    "memory of the new value": ("torch", "overwrite_in_place_copies", {"overwrite": torch_shares}),
    "one donated too many": ("jax", "compile_consumes_only_the_first", {"compile": jax_donates_more}),
    "tracers disowned": (
        "jax",
        "tracers_are_known",
        {"owns": lambda self, value: isinstance(value, sys.modules["jax"].Array) and not self.is_traced(value)},
    ),
    "tracers taken for arrays": ("jax", "tracers_are_known", {"is_traced": lambda self, value: False}),
    **OF_TREES_OF_FRAMEWORKS,
}


# --- arrays with a wrong operator ------------------------------------------------------------------------------------
def adapter_of_arrays(**methods):
    """An adapter whose arrays have some methods of their own, and are NumPy's in all else."""
    kind = type("Array", (np.ndarray,), methods)

    def asarray(self, value, dtype, device=None):
        return np.array(value, self.dtype(dtype)).view(kind)

    return broken(asarray=asarray, array_types=(kind,))


def wrong_operator(name):
    """An operator of arrays that is off by one."""
    found = getattr(operator, name)
    return lambda self, *others: wrong(found(*(np.asarray(x) for x in (self, *others)))).view(type(self))


def promoting(self, other):
    """A product in which Python's numbers are doubles."""
    return np.multiply(np.asarray(self), np.float64(other) if type(other) is float else other)
