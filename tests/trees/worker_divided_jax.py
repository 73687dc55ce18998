"""Claims about arrays of JAX over two processes, each a function `check_*`: worker_divided_jax.py FOLDER RANK PORT.

Every process writes a JSON file into the folder: for each claim, the failure, or nothing.
"""

import json
import os
import sys
import traceback
import warnings
from pathlib import Path

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import multisched as ms
from multisched import errors

FOLDER, RANK, PORT = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"localhost:{PORT}", 2, RANK)

MESH = jax.make_mesh((4,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
SPLIT, EVERYWHERE = NamedSharding(MESH, PartitionSpec("d")), NamedSharding(MESH, PartitionSpec())


def made(step):
    """A tree of an array over all devices, and one that each of them has."""
    whole = np.arange(32, dtype=np.float32).reshape(8, 4)
    return {
        "split": jax.make_array_from_callback((8, 4), SPLIT, lambda at: whole[at] + step),
        "everywhere": jax.make_array_from_callback((4,), EVERYWHERE, lambda at: np.full(4, step, np.float32)[at]),
    }


def averaged(masked=False, updates=3):
    average = ms.Average(made(0), ms.ema(0.5))
    for step in range(updates):
        average.update(made(step))
    if masked:
        average.update(made(9), where=jax.jit(lambda x: x.sum() < 0, out_shardings=EVERYWHERE)(made(1)["split"]))
    return average


def held(average):
    """What this process holds of it."""
    return [np.asarray(shard.data) for leaf in average.value.values() for shard in leaf.addressable_shards]


def check_a_file_is_refused():
    """`ms.save` of arrays over several processes is refused on all of them, and writes nothing."""
    path = FOLDER / f"refused{RANK}"
    try:
        ms.save(path, averaged())
    except errors.CheckpointError as error:
        text = str(error)
    assert "'split'" in text, text
    assert "Orbax" in text, text
    assert not path.exists()


def check_copies_on_all_processes_are_saved():
    """Arrays of which each process has a whole copy are saved, and loaded where arrays are over several processes."""
    average = ms.Average({"everywhere": made(0)["everywhere"]}, ms.ema(0.5))
    average.update({"everywhere": made(2)["everywhere"]})
    path = FOLDER / f"whole{RANK}"
    ms.save(path, average)
    other = ms.Average({"everywhere": made(0)["everywhere"]}, ms.ema(0.5))
    ms.load(path, other)
    assert other.count == 1
    assert held(other)[0].tolist() == [2] * 4
    alone = ms.Average({"split": np.full((8, 4), 3, np.float32), "everywhere": np.ones(4, np.float32)}, ms.ema(0.5))
    alone.update()
    ms.save(path, alone)
    spread = averaged()
    ms.load(path, spread)
    assert {float(part.max()) for part in held(spread)} == {3, 1}


def check_states_go_through_orbax():
    """What `state_dict` gives, after updates with and without a mask that devices know, is saved and restored."""
    import orbax.checkpoint as ocp

    for masked in (False, True):
        average, path = averaged(masked), FOLDER / f"orbax{masked}"
        checkpointer = ocp.StandardCheckpointer()
        checkpointer.save(path, average.state_dict())
        checkpointer.wait_until_finished()
        other = ms.Average(made(5), ms.ema(0.5))

        def like(leaf):
            return (
                jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
                if isinstance(leaf, jax.Array)
                else leaf
            )

        other.load_state_dict(checkpointer.restore(path, jax.tree.map(like, other.state_dict())))
        assert other.count == average.count == 3
        for one, two in zip(held(average), held(other), strict=True):
            assert one.tolist() == two.tolist()
        average.update(made(7))
        other.update(made(7))
        for one, two in zip(held(average), held(other), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-6)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    failures = {}
    for name, check in [item for item in globals().items() if item[0].startswith("check_")]:
        try:
            check()
            failures[name] = ""
        except ImportError as missing:
            failures[name] = f"skip: {missing}"
        except BaseException:
            failures[name] = traceback.format_exc()
        (FOLDER / f"{RANK}.json").write_text(json.dumps(failures))
    jax.distributed.shutdown()
