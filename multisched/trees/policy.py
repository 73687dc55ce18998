"""What becomes of each leaf: averaged, copied or skipped."""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, Literal, TypeAlias, get_args

from multisched.arrays import BITS, dtype_name, kind_of
from multisched.errors import SelectError, listed, shown

Policy = Literal["average", "copy", "skip"]
"""What becomes of a leaf."""
POLICIES: tuple[Policy, ...] = get_args(Policy)
AVERAGE: Final = "average"
COPY: Final = "copy"
SKIP: Final = "skip"

Select: TypeAlias = Callable[[str, Any], Policy | None] | Mapping[str, Policy]
"""A function of the name and the leaf, or policies by glob patterns of the name; see `Average`."""


def chosen(select: Select | None, names: tuple[str, ...], leaves: list[Any], backend: Any = None) -> list[Policy]:
    """The policy of each leaf; `backend` tells which arrays have a mean."""
    if isinstance(select, Mapping):
        _check_patterns(select, names)
    elif select is not None and not callable(select):
        raise SelectError(f"select is a function of name and leaf, or policies by glob patterns, got {shown(select)}.")
    return [_policy(select, name, leaf, backend) for name, leaf in zip(names, leaves, strict=True)]


def _check_patterns(select: Mapping[str, Policy], names: tuple[str, ...]) -> None:
    for pattern, policy in select.items():
        if policy not in POLICIES:
            raise SelectError(f"select gives {policy!r} for {pattern!r}; expected one of {', '.join(POLICIES)}.")
        if not isinstance(pattern, str):
            raise SelectError(f"The patterns of select are strings, got {shown(pattern)}.")
        if not any(fnmatchcase(name, pattern) for name in names):
            raise SelectError(f"select has the pattern {pattern!r}, which no leaf matches; there are {listed(names)}.")


def _policy(select: Select | None, name: str, leaf: Any, backend: Any) -> Policy:
    policy: Policy | None = None
    if isinstance(select, Mapping):
        policy = next((p for pattern, p in select.items() if fnmatchcase(name, pattern)), None)
    elif select is not None:
        policy = select(name, leaf)
    usual = usual_policy(leaf, backend)
    if policy is None:
        return usual
    if policy not in POLICIES:
        raise SelectError(f"select gives {policy!r} for {name!r}; expected one of {', '.join(POLICIES)}, or None.")
    if policy == AVERAGE and usual != AVERAGE:
        raise SelectError(
            f"select averages {name!r}, which is {_described(leaf)} and has no mean; dense floating and complex arrays "
            f'have one. Say select={{{name!r}: "copy"}} or "skip".'
        )
    return policy


def usual_policy(leaf: Any, backend: Any = None) -> Policy:
    """Dense floating arrays of 16 bits and more, and complex ones, are averaged; all others have no mean: a copy."""
    dtype = dtype_name(getattr(leaf, "dtype", ""))
    averaged = dtype in BITS and kind_of(dtype) in ("float", "complex") and is_dense(backend, leaf)
    return AVERAGE if averaged else COPY


def is_dense(backend: Any, leaf: Any) -> bool:
    """Whether the elements of an array lie in memory as numbers: it is not sparse, quantised or nested."""
    tell: Any = getattr(backend, "is_dense", None)  # an adapter may have no others
    return tell is None or not backend.owns(leaf) or bool(tell(leaf))


def _described(leaf: Any) -> str:
    if not hasattr(leaf, "dtype"):
        return shown(leaf)
    dtype, layout = dtype_name(leaf.dtype), dtype_name(getattr(leaf, "layout", "strided"))
    kind = f"of dtype {dtype}" if dtype not in BITS or layout == "strided" else f"of the layout {layout}"
    return f"{kind}, a {type(leaf).__name__}"
