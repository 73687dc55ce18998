"""The header of a safetensors file: how its arrays look and where they lie, what else is said of them, and checksums.

A file is the length of its header in 8 bytes, the header, which is JSON, and the bytes of the arrays. The format knows
no checksums, so they stand in its metadata, which other readers pass over: one of each array, and one of the header.
All have one width, so that the header can be written before the arrays, and again once their checksums are known.

Source: https://huggingface.co/docs/safetensors, "Format".
"""

import json
import zlib
from collections import Counter
from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

from multisched.errors import listed, named

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

_LONGEST = 100_000_000
"""Bytes of a header; other readers of the format refuse a longer one, too."""
_AXES = 64
"""As many as NumPy's arrays have at most."""
_DIGITS = 20
"""Of the largest number of bytes that an array can have, and a sign."""


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
    """The header of a file. Without the checksums it is as long as with them.

    Raises `ValueError` for one that no reader of the format would take.
    """
    if _METADATA in entries:
        raise ValueError(f"the format keeps the name {_METADATA!r} for itself")
    sums = {name: _UNKNOWN if checksums is None else checksums[name] for name in entries}
    document: dict[str, Any] = {_METADATA: {**metadata, _ARRAYS: json.dumps(sums), _HEADER: _UNKNOWN}}
    for name, entry in entries.items():
        offsets = [entry.start, entry.end]
        document[name] = {"dtype": _CODES[entry.dtype], "shape": entry.shape, "data_offsets": offsets}
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _LONGEST:
        raise ValueError(f"its header would have {len(text)} bytes, more than the {_LONGEST} that the format allows")
    header = len(text).to_bytes(8, "little") + text
    at = _place(header)
    return header[:at] + checksum(header).encode() + header[at + len(_UNKNOWN) :]


def _place(header: bytes) -> int:
    """Where the checksum of a header stands. In names and texts quotes are escaped, so that none is taken for it."""
    key = f'"{_HEADER}":"'.encode()
    return header.index(key) + len(key)


def size_of(first: bytes, length: int) -> int:
    """The bytes before the arrays in a file of `length` bytes that begins with `first`, its first 8."""
    size = 8 + int.from_bytes(first, "little")
    if len(first) < 8 or size > length:
        raise ValueError("it is shorter than its header")
    if size - 8 > _LONGEST:
        raise ValueError(f"its header has {size - 8} bytes, more than the {_LONGEST} that the format allows")
    return size


def read(head: bytes, length: int) -> Header:
    """The header of a file of `length` bytes, of which `head` are those before the arrays.

    Raises `ValueError`, `TypeError` or `RecursionError` if it is none. Takes time and memory in proportion to `head`.
    """
    document = _parsed(head[8:].decode())
    if not isinstance(document, dict):
        raise TypeError("its header is no table")
    metadata = _texts(document.get(_METADATA, {}), "its metadata")
    entries = {name: _entry(name, fields) for name, fields in document.items() if name != _METADATA}
    at = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != at:
            raise ValueError(f"{named(name)} does not begin where the array before it ends")
        at = entry.end
    if at != length - len(head):
        raise ValueError(f"its arrays have {at} bytes, and {length - len(head)} are there")
    own = {name: text for name, text in metadata.items() if name not in (_ARRAYS, _HEADER, _EARLIER)}
    checksums = _checksums(metadata)
    found = Header(entries, own, checksums, len(head))
    if checksums is not None and set(checksums) != set(entries):
        raise ValueError(f"entries and checksums differ in {listed(sorted(set(checksums) ^ set(entries)))}")
    if _HEADER in metadata and not _is_whole(head):
        again = head[8:].rstrip(b" ") == _compact(document)
        if not (again and _was_whole(found, metadata[_HEADER])):
            raise ValueError("the checksum of its header is another")
    return found


def _parsed(text: str) -> Any:
    """A JSON document without what no header has: names given twice, and numbers that are not whole or endless."""
    return json.loads(
        text, object_pairs_hook=_table, parse_int=_whole_number, parse_float=_refused, parse_constant=_refused
    )


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"its header has the name {named(name)} twice")
    return table


def _whole_number(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"its header has a number of {len(digits)} digits")
    return int(digits)


def _refused(number: str) -> Any:
    raise ValueError(f"its header has the number {named(number)}, which is not whole")


def _compact(document: dict[str, Any]) -> bytes:
    """A header as other writers of the format make it. Half a pair of surrogates, which UTF-8 lacks, becomes a `?`."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")


def _texts(table: Any, what: str) -> dict[str, str]:
    if not isinstance(table, dict) or not all(isinstance(text, str) for text in table.values()):
        raise TypeError(f"{what} is no table of texts")
    return table


def _checksums(metadata: Mapping[str, str]) -> dict[str, str] | None:
    """The checksums of the arrays; any key of them tells that the file is ours."""
    if _ARRAYS in metadata or _HEADER in metadata:
        if _ARRAYS not in metadata or _HEADER not in metadata:
            raise ValueError("it has one kind of checksums without the other")
        return _texts(_parsed(metadata[_ARRAYS]), "its checksums")
    if _EARLIER in metadata:
        sums = _parsed(metadata[_EARLIER])
        if not isinstance(sums, dict) or not all(isinstance(each, int) for each in sums.values()):
            raise TypeError("its checksums are no table of numbers")
        return {name: f"{each:08x}" for name, each in sums.items()}
    return None


def _is_whole(head: bytes) -> bool:
    """Whether a header is, to the byte, the one that we wrote."""
    key = f'"{_HEADER}":"'.encode()
    at = head.find(key) + len(key)
    blank = head[:at] + _UNKNOWN.encode() + head[at + len(_UNKNOWN) :]
    return key in head and head[at : at + len(_UNKNOWN)] == checksum(blank).encode()


def _was_whole(found: Header, expected: str) -> bool:
    """Whether a header that another program wrote again, in its own order, says what ours said.

    Ours is made again from what it said. It has the metadata sorted by name, and had it in the reverse order in 0.1.
    """
    laid = laid_out({name: (entry.dtype, entry.shape) for name, entry in found.entries.items()})
    orders = (dict(sorted(found.metadata.items(), reverse=reverse)) for reverse in (False, True))
    return any(_sum_in(written(laid, metadata, found.checksums)) == expected.encode() for metadata in orders)


def _sum_in(header: bytes) -> bytes:
    at = _place(header)
    return header[at : at + len(_UNKNOWN)]


def _entry(name: str, fields: Any) -> Entry:
    if not isinstance(fields, dict) or set(fields) != {"dtype", "shape", "data_offsets"}:
        raise TypeError(f"{named(name)} is not described as an array is")
    code, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(code, str) or code not in _DTYPES:
        raise ValueError(f"{named(name)} is of dtype {named(code)}, expected one of {', '.join(_DTYPES)}")
    dtype = _DTYPES[code]
    if not _whole(shape) or not _whole(offsets) or len(offsets) != 2:
        raise TypeError(f"the shape and the place of {named(name)} are no lists of whole numbers")
    if len(shape) > _AXES:  # before they are multiplied
        raise ValueError(f"{named(name)} has {len(shape)} axes, more than the {_AXES} that an array can have")
    start, end = offsets
    if end - start != prod(shape) * _SIZES[dtype]:
        raise ValueError(f"{named(name)} has {end - start} bytes, and not those of its shape and dtype")
    if prod(axis or 1 for axis in shape) * _SIZES[dtype] >= 2**63:  # without elements, and too large all the same
        raise ValueError(f"{named(name)} has a shape that no array can have")
    return Entry(dtype, tuple(shape), start, end)


def _whole(numbers: Any) -> bool:
    return isinstance(numbers, list) and all(type(number) is int and number >= 0 for number in numbers)
