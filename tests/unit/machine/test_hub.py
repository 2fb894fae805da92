"""What can be told about a fetch without one."""

from pathlib import Path

import pytest

from gpuserve.machine.hub import free_bytes, offline


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"HF_HUB_OFFLINE": "0"}, None),
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE"),
        ({"HF_HUB_OFFLINE": "true"}, "HF_HUB_OFFLINE"),
        ({"TRANSFORMERS_OFFLINE": "1"}, "TRANSFORMERS_OFFLINE"),
    ],
)
def test_the_variable_that_forbids_the_network_is_named(
    variables: dict[str, str], expected: str | None
) -> None:
    assert offline(variables) == expected


def test_the_room_of_a_directory_yet_to_be_made_is_that_of_its_parent(tmp_path: Path) -> None:
    there = free_bytes(tmp_path / "not" / "yet")
    assert there > 0
    assert abs(there - free_bytes(tmp_path)) < 1 << 30  # others write meanwhile
