"""The headers of safetensors files: which tensors there are, without reading one of them.

A checkpoint may come from anywhere, so everything about it is bounded and checked: the length of a
header before it is read, offsets against the file, each tensor's bytes against its shape.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from gpuserve.machine.checkpointfile import CheckpointError, opened

# The format allows 100 MB (safetensors, MAX_HEADER_SIZE), which as JSON would take a gigabyte of
# memory. A line is about 120 bytes: this is 100,000 tensors in one file, and in all files
# together more than the largest published checkpoint has.
_LARGEST_HEADER_BYTES = 16 << 20
_LARGEST_HEADERS_BYTES = 256 << 20
_BITS = {
    "F64": 64, "I64": 64, "U64": 64, "C64": 64,
    "F32": 32, "I32": 32, "U32": 32,
    "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I8": 8, "U8": 8, "BOOL": 8,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
_AGAIN = "the download is incomplete or damaged: fetch it again"


def tensors_of(files: Iterable[Path]) -> Iterator[tuple[str, str, int]]:
    """Yield (name, dtype, bytes) of each tensor of *files*.

    Raises CheckpointError, naming the file, for a header that is truncated, too large, no JSON,
    or does not agree with itself or with the file; and for a tensor that two files hold.
    """
    holders: dict[str, Path] = {}
    left = _LARGEST_HEADERS_BYTES
    for file in files:
        header, size, length = _header(file, left)
        left -= length
        for name, dtype, count in _entries(file, header, size - 8 - length):
            if name in holders:
                raise CheckpointError(
                    f"{file}: the tensor {_quoted(name)} is in {holders[name].name} as well",
                    "the directory mixes shards of several checkpoints: keep one set",
                )
            holders[name] = file
            yield name, dtype, count


def _header(file: Path, left: int) -> tuple[dict[str, Any], int, int]:
    """Return the header, the size of the file, and the length of the header."""
    with opened(file) as stream:
        size = os.fstat(stream.fileno()).st_size
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= size - 8:
            raise _damaged(file, f"its header claims {length} bytes of a file of {size}")
        if length > min(_LARGEST_HEADER_BYTES, left):
            most = min(_LARGEST_HEADER_BYTES, left) >> 20
            raise CheckpointError(
                f"{file}: its header has {length >> 20} MiB, more than the {most} that are read",
                "no published checkpoint needs as much; is it one?",
            )
        raw = stream.read(length)
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _damaged(file, "its header is not JSON") from error
    if not isinstance(header, dict):
        raise _damaged(file, "its header is not a JSON object")
    return header, size, length


def _entries(file: Path, header: dict[str, Any], room: int) -> Iterator[tuple[str, str, int]]:
    spans = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = _offsets(entry)
        if not 0 <= begin <= end <= room:
            raise _damaged(file, f"the tensor {_quoted(name)} ends at byte {end} of {room}")
        _check_shape(file, name, entry, end - begin)
        spans.append((begin, end, name))
        yield name, str(entry.get("dtype")), end - begin
    spans.sort()
    for (_, end, before), (begin, _, name) in pairwise(spans):
        if begin < end:
            raise _damaged(file, f"the tensors {_quoted(before)} and {_quoted(name)} overlap")


def _offsets(entry: Any) -> tuple[int, int]:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if isinstance(offsets, list) and len(offsets) == 2 and all(type(n) is int for n in offsets):
        return offsets[0], offsets[1]
    return 0, -1


def _check_shape(file: Path, name: str, entry: dict[str, Any], size: int) -> None:
    shape, bits = entry.get("shape"), _BITS.get(str(entry.get("dtype")))
    if not isinstance(shape, list) or not all(_is_size(n) for n in shape[:16]):
        raise _damaged(file, f"the tensor {_quoted(name)} has no shape")
    if bits is None:  # a dtype that is newer than this list
        return
    stated = math.prod(shape[:16]) * bits
    if stated != size * 8:
        needed = -(-stated // 8)
        raise _damaged(
            file, f"the tensor {_quoted(name)} has {size} bytes, its shape needs {needed}"
        )


def _is_size(number: Any) -> bool:
    return type(number) is int and 0 <= number < 1 << 63


def _quoted(name: str) -> str:
    # Escaped: a name may hold what a terminal obeys, or what is no text at all.
    return json.dumps(name[:80])


def _damaged(file: Path, what: str) -> CheckpointError:
    return CheckpointError(f"{file}: {what}", _AGAIN)
