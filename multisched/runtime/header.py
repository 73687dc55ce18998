"""The header of a safetensors file: how its arrays look and where they lie, what else is said of them, and checksums.

A file is the length of its header in 8 bytes, the header, which is JSON, and the bytes of the arrays. The format knows
no checksums, so they stand in its metadata, which other readers pass over: one of each array, and one of the header.
All have one width, so that the header can be written before the arrays, and again once their checksums are known.

Source: https://huggingface.co/docs/safetensors, "Format".
"""

import json
import zlib
from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

_KINDS = {"I": "int", "U": "uint", "F": "float"}
_DTYPES = {"BOOL": "bool", "BF16": "bfloat16", "C64": "complex64"} | {
    f"{letter}{bits}": f"{kind}{bits}"
    for letter, kind in _KINDS.items()
    for bits in (8, 16, 32, 64)
    if (letter, bits) != ("F", 8)
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_SIZES = {dtype: int("".join(filter(str.isdigit, dtype)) or 8) // 8 for dtype in _CODES}

_METADATA = "__metadata__"
_ARRAYS, _HEADER = "multisched.checksums", "multisched.header"
_EARLIER = "multisched.crc32"
"""The checksums of the arrays in files of earlier versions, which had none of the header."""
_UNKNOWN = "0" * 8


class Entry(NamedTuple):
    """An array in a file: its form, and where its bytes lie after the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class Header(NamedTuple):
    """What stands before the arrays."""

    entries: dict[str, Entry]
    metadata: dict[str, str]
    """Without the checksums."""
    checksums: Mapping[str, str] | None
    """Of each array; None in a file of others, which has none."""
    size: int
    """In bytes, with the length."""


def checksum(data: Any) -> str:
    """The CRC-32 of a buffer, in 8 digits."""
    return f"{zlib.crc32(data):08x}"


def has(dtype: str) -> bool:
    """Whether the format has a dtype."""
    return dtype in _CODES


def laid_out(forms: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, Entry]:
    """Arrays of these dtypes and shapes in the order in which they lie: the widest first, so that all are aligned."""
    entries, at = {}, 0
    for name in sorted(forms, key=lambda name: (-_SIZES[forms[name][0]], name)):
        dtype, shape = forms[name]
        end = at + prod(shape) * _SIZES[dtype]
        entries[name] = Entry(dtype, shape, at, end)
        at = end
    return entries


def written(entries: Mapping[str, Entry], metadata: Mapping[str, str], checksums: Mapping[str, str] | None) -> bytes:
    """The header of a file. Without the checksums it is as long as with them."""
    sums = {name: _UNKNOWN if checksums is None else checksums[name] for name in entries}
    document: dict[str, Any] = {_METADATA: {**metadata, _ARRAYS: json.dumps(sums), _HEADER: _UNKNOWN}}
    for name, entry in entries.items():
        offsets = [entry.start, entry.end]
        document[name] = {"dtype": _CODES[entry.dtype], "shape": entry.shape, "data_offsets": offsets}
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    at = _place(header)
    return header[:at] + checksum(header).encode() + header[at + len(_UNKNOWN) :]


def _place(header: bytes) -> int:
    """Where the checksum of a header stands. In names and texts quotes are escaped, so that none is taken for it."""
    key = f'"{_HEADER}":"'.encode()
    return header.index(key) + len(key)


def read(content: bytes) -> Header:
    """The header of the content of a file. Raises `ValueError`, `TypeError` or `RecursionError` if it has none."""
    size = 8 + int.from_bytes(content[:8], "little")
    if len(content) < max(size, 8):
        raise ValueError("it is shorter than its header")
    document = json.loads(content[8:size])
    if not isinstance(document, dict):
        raise TypeError("its header is no table")
    metadata = _texts(document.pop(_METADATA, {}), "its metadata")
    checksums = _checksums(metadata, content[:size])
    entries = {name: _entry(name, fields) for name, fields in document.items()}
    at = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != at:
            raise ValueError(f"{name!r} does not begin where the array before it ends")
        at = entry.end
    if at != len(content) - size:
        raise ValueError(f"its arrays have {at} bytes, and {len(content) - size} are there")
    own = {name: text for name, text in metadata.items() if name not in (_ARRAYS, _HEADER, _EARLIER)}
    return Header(entries, own, checksums, size)


def _texts(table: Any, what: str) -> dict[str, str]:
    if not isinstance(table, dict) or not all(isinstance(text, str) for text in table.values()):
        raise TypeError(f"{what} is no table of texts")
    return table


def _checksums(metadata: Mapping[str, str], header: bytes) -> Mapping[str, str] | None:
    """The checksums of the arrays, once the header is known to be whole; either key tells that it is ours."""
    if _ARRAYS in metadata or _HEADER in metadata:
        at = _place(header)
        blank = header[:at] + _UNKNOWN.encode() + header[at + len(_UNKNOWN) :]
        if header[at : at + len(_UNKNOWN)] != checksum(blank).encode():
            raise ValueError("the checksum of its header is another")
        return _texts(json.loads(metadata[_ARRAYS]), "its checksums")
    if _EARLIER in metadata:
        sums = json.loads(metadata[_EARLIER])
        if not isinstance(sums, dict) or not all(isinstance(each, int) for each in sums.values()):
            raise TypeError("its checksums are no table of numbers")
        return {name: f"{each:08x}" for name, each in sums.items()}
    return None


def _entry(name: str, fields: Any) -> Entry:
    if not isinstance(fields, dict) or set(fields) != {"dtype", "shape", "data_offsets"}:
        raise TypeError(f"{name!r} is not described as an array is")
    code, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if code not in _DTYPES:
        raise ValueError(f"{name!r} is of dtype {code}, expected one of {', '.join(_DTYPES)}")
    dtype = _DTYPES[code]
    if not _whole(shape) or not _whole(offsets) or len(offsets) != 2:
        raise TypeError(f"the shape and the place of {name!r} are no lists of whole numbers")
    start, end = offsets
    if end - start != prod(shape) * _SIZES[dtype]:
        raise ValueError(f"{name!r} has {end - start} bytes, and not those of its shape and dtype")
    return Entry(dtype, tuple(shape), start, end)


def _whole(numbers: Any) -> bool:
    return isinstance(numbers, list) and all(type(number) is int and number >= 0 for number in numbers)
