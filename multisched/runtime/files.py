"""Arrays in a file: safetensors, written atomically, with a checksum for each array.

The format holds no code, so that a file from a stranger is safe to open; any backend reads any other's file.
"""

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from multisched.errors import CheckpointCorrupt, DTypeError

_CHECKSUMS = "multisched.crc32"
_DTYPES = {
    **{"BOOL": "bool", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "C64": "complex64"},
    **{
        f"{letter}{bits}": f"{kind}{bits}" for letter, kind in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)
    },
}


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name. The file at `path` is the old one or the new one, whole, whatever happens meanwhile."""
    from safetensors.numpy import save

    for name, array in arrays.items():
        if array.dtype.name not in _DTYPES.values():
            raise DTypeError(f"{name}: safetensors has no dtype {array.dtype.name}.")
    ready = {
        name: np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")).reshape(array.shape)
        for name, array in arrays.items()
    }
    checksums = {name: zlib.crc32(array.tobytes()) for name, array in ready.items()}
    content = save(ready, metadata={_CHECKSUMS: json.dumps(checksums)})
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.urandom(8).hex()}")
    try:
        with open(temporary, "xb") as file:  # with the permissions of any new file, which tempfile withholds
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays in a file, by name. Raises `CheckpointCorrupt` unless it is whole; no such file is an `OSError`."""
    from safetensors import SafetensorError, deserialize

    content = Path(path).read_bytes()
    try:
        entries: dict[str, Any] = dict(deserialize(content))  # type: ignore[no-untyped-call]
        checksums = _checksums(content)
        arrays = {name: _array(name, entry) for name, entry in entries.items()}
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as cause:
        raise CheckpointCorrupt(f"{os.fspath(path)!r} is no whole safetensors file: {cause}.") from cause
    if checksums is not None and set(checksums) != set(arrays):
        names = ", ".join(sorted(map(repr, set(checksums) ^ set(arrays))))
        raise CheckpointCorrupt(f"{os.fspath(path)!r} is damaged: entries and checksums differ in {names}.")
    for name, array in arrays.items():
        if checksums is not None and checksums[name] != zlib.crc32(array.tobytes()):
            raise CheckpointCorrupt(
                f"{os.fspath(path)!r} is damaged: the checksum of {name!r} is not that of its bytes."
            )
    return arrays


def _checksums(content: bytes) -> dict[str, int] | None:
    """The checksums in the header; None in a file of others, which has none."""
    length = int.from_bytes(content[:8], "little")
    metadata: dict[str, str] = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    if _CHECKSUMS not in metadata:
        return None
    checksums: dict[str, int] = json.loads(metadata[_CHECKSUMS])
    if not isinstance(checksums, dict):
        raise ValueError("its checksums are no table")
    return checksums


def _array(name: str, entry: Mapping[str, Any]) -> np.ndarray:
    if entry["dtype"] not in _DTYPES:
        raise ValueError(f"{name} is of dtype {entry['dtype']}, expected one of {', '.join(_DTYPES)}")
    dtype = _DTYPES[entry["dtype"]]
    if dtype == "bfloat16":
        import ml_dtypes

        return np.frombuffer(bytes(entry["data"]), ml_dtypes.bfloat16).reshape(entry["shape"])
    return np.frombuffer(bytes(entry["data"]), dtype).reshape(entry["shape"])
