"""Sizes at the edges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuserve.units import GIB, MIB, gib, mib, parse_bytes


@given(st.integers(min_value=1, max_value=100_000))
def test_what_is_written_in_mib_is_read_back(count: int) -> None:
    assert parse_bytes(f"{count} MiB") == count * MIB


def test_sizes_are_read_with_and_without_a_space() -> None:
    assert parse_bytes("50 GiB") == parse_bytes("50GiB") == 50 * GIB
    assert parse_bytes("1.5 GiB") == 3 * GIB // 2
    assert gib(3 * GIB // 2) == "1.50 GiB"
    assert (mib(3 * MIB // 2), mib(10 << 30)) == ("1.5 MiB", "10240 MiB")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("50 GB", "ambiguous"),
        ("50", "needs a unit"),
        ("50 gib", '"GiB"'),
        ("50 parsecs", "unknown unit"),
        ("0 GiB", "larger than zero"),
        ("-1 GiB", "expected a size"),
        ("", "expected a size"),
        ("nan GiB", "expected a size"),
    ],
)
def test_what_is_no_size_is_refused_with_the_reason(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_bytes(text)
