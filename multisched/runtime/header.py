"""The header of a safetensors file: the dtypes, shapes and places of its arrays, metadata, and checksums.

A file consists of the length of the header in 8 bytes, the header, which is JSON, and the bytes of the arrays. The
format has no checksums. So they are kept in the metadata, which other readers ignore: one for each array, and one for
the header. They have a fixed width: the header is written once before the arrays, and again with their checksums.

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
"""The checksums of the arrays in files of earlier versions, which had no checksum of the header."""
_UNKNOWN = "0" * 8
_KEY = f'"{_HEADER}":"'.encode()

_LONGEST = 100_000_000
"""The most bytes of a header; other readers of the format refuse a longer one, too."""
_AXES = 64
"""The most axes of an array, as in NumPy."""
_DIGITS = 20
"""The most digits of a number: an array has fewer than 2**63 bytes."""


class Entry(NamedTuple):
    """An array in a file: its dtype and shape, and where its bytes lie after the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class Header(NamedTuple):
    """The contents of a header."""

    entries: dict[str, Entry]
    metadata: dict[str, str]
    """Without the checksums."""
    checksums: Mapping[str, str] | None
    """By array; None in a file of another program, which has none."""
    size: int
    """The number of bytes before the arrays."""


def checksum(data: Any) -> str:
    """The CRC-32 of a buffer, in 8 digits."""
    return f"{zlib.crc32(data):08x}"


def has(dtype: str) -> bool:
    """Whether the format has a dtype."""
    return dtype in _CODES


def laid_out(forms: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, Entry]:
    """The places of arrays of these dtypes and shapes: the widest dtypes come first, so that all are aligned."""
    entries, at = {}, 0
    for name in sorted(forms, key=lambda name: (-_SIZES[forms[name][0]], name)):
        dtype, shape = forms[name]
        end = at + prod(shape) * _SIZES[dtype]
        entries[name] = Entry(dtype, shape, at, end)
        at = end
    return entries


def written(entries: Mapping[str, Entry], metadata: Mapping[str, str], checksums: Mapping[str, str] | None) -> bytes:
    """The bytes of a header; their number is the same with and without checksums.

    Raises `ValueError` for a header that readers of the format would refuse.
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
    return _with_sum(header, checksum(header).encode())


def _slot(header: bytes) -> slice:
    """Where the checksum of a header stands in it.

    The key is found by its quotes: those in names and texts are escaped, so neither can be taken for it.
    """
    start = header.index(_KEY) + len(_KEY)
    return slice(start, start + len(_UNKNOWN))


def _with_sum(header: bytes, digits: bytes) -> bytes:
    """A header with these digits as its checksum."""
    slot = _slot(header)
    return header[: slot.start] + digits + header[slot.stop :]


def size_of(first: bytes, length: int) -> int:
    """The number of bytes before the arrays, in a file of `length` bytes whose first 8 are `first`."""
    size = 8 + int.from_bytes(first, "little")
    if len(first) < 8 or size > length:
        raise ValueError("it is shorter than its header")
    if size - 8 > _LONGEST:
        raise ValueError(f"its header has {size - 8} bytes, more than the {_LONGEST} that the format allows")
    return size


def read(head: bytes, length: int) -> Header:
    """Read the header of a file of `length` bytes; `head` are the bytes before the arrays.

    Raises `ValueError`, `TypeError` or `RecursionError` if they are not a header. Takes time and memory in proportion
    to the length of `head`.
    """
    document = _parsed(head[8:].decode())
    if not isinstance(document, dict):
        raise TypeError("its header is not a JSON object")
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
            raise ValueError("the checksum of its header does not match")
    return found


def _parsed(text: str) -> Any:
    """Parse a JSON document, and refuse what no header has: repeated names, fractions, and numbers of many digits."""
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
    """A header as other programs write it. A lone surrogate, which UTF-8 cannot encode, becomes a `?`."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")


def _texts(table: Any, what: str) -> dict[str, str]:
    if not isinstance(table, dict) or not all(isinstance(text, str) for text in table.values()):
        raise TypeError(f"{what} is not an object of strings")
    return table


def _checksums(metadata: Mapping[str, str]) -> dict[str, str] | None:
    """The checksums of the arrays, or None if this library did not write the file."""
    if _ARRAYS in metadata or _HEADER in metadata:
        if _ARRAYS not in metadata or _HEADER not in metadata:
            raise ValueError("it has one kind of checksums without the other")
        return _texts(_parsed(metadata[_ARRAYS]), "its checksums")
    if _EARLIER in metadata:
        sums = _parsed(metadata[_EARLIER])
        if not isinstance(sums, dict) or not all(isinstance(each, int) for each in sums.values()):
            raise TypeError("its checksums are not an object of numbers")
        return {name: f"{each:08x}" for name, each in sums.items()}
    return None


def _is_whole(head: bytes) -> bool:
    """Whether a header is, byte for byte, the one that this library wrote."""
    return _KEY in head and head[_slot(head)] == checksum(_with_sum(head, _UNKNOWN.encode())).encode()


def _was_whole(found: Header, expected: str) -> bool:
    """Whether a header that another program wrote anew, in its own order, has the contents that ours had.

    Our header is rebuilt from the contents. Its metadata are sorted by name; version 0.1 sorted them in reverse.
    """
    laid = laid_out({name: (entry.dtype, entry.shape) for name, entry in found.entries.items()})
    orders = (dict(sorted(found.metadata.items(), reverse=reverse)) for reverse in (False, True))
    ours = (written(laid, metadata, found.checksums) for metadata in orders)
    return any(header[_slot(header)] == expected.encode() for header in ours)


def _entry(name: str, fields: Any) -> Entry:
    if not isinstance(fields, dict) or set(fields) != {"dtype", "shape", "data_offsets"}:
        raise TypeError(f"the entry {named(name)} does not describe an array")
    code, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(code, str) or code not in _DTYPES:
        raise ValueError(f"{named(name)} has the dtype {named(code)}, expected one of {', '.join(_DTYPES)}")
    dtype = _DTYPES[code]
    if not _whole(shape) or not _whole(offsets) or len(offsets) != 2:
        raise TypeError(f"the shape and the offsets of {named(name)} are not lists of whole numbers")
    if len(shape) > _AXES:  # before they are multiplied
        raise ValueError(f"{named(name)} has {len(shape)} axes, more than the {_AXES} that an array can have")
    start, end = offsets
    if end - start != prod(shape) * _SIZES[dtype]:
        raise ValueError(f"{named(name)} has {end - start} bytes, which does not fit its shape and dtype")
    if (
        prod(axis or 1 for axis in shape) * _SIZES[dtype] >= 2**63
    ):  # an array without elements can have a shape that is too large
        raise ValueError(f"{named(name)} has a shape that no array can have")
    return Entry(dtype, tuple(shape), start, end)


def _whole(numbers: Any) -> bool:
    return isinstance(numbers, list) and all(type(number) is int and number >= 0 for number in numbers)
