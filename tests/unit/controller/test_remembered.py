"""What outlives a controller, and what outlives an instance."""

from pathlib import Path

import pytest

from gpuserve.controller.remembered import Memory, Remembered


def test_a_new_controller_remembers_what_the_last_one_wrote(tmp_path: Path) -> None:
    Memory(tmp_path / "s.json", "1:1").change("a", failed="no memory", failures=5, starts=3)
    assert Memory(tmp_path / "s.json", "1:1").of("a") == Remembered(
        failed="no memory", failures=5, starts=3
    )


def test_a_new_instance_remembers_only_what_the_operator_stopped_and_how_long_starts_took(
    tmp_path: Path,
) -> None:
    memory = Memory(tmp_path / "s.json", "1:1")
    memory.change("a", failed="x", failures=5, starts=3, stopped=True, last_start_s=40.0)
    assert Memory(tmp_path / "s.json", "2:1").of("a") == Remembered(stopped=True, last_start_s=40.0)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"engines": {"a": {"novel": 1}}}', "\0\0"])
def test_a_damaged_file_counts_as_empty(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.json").write_text(text)
    assert Memory(tmp_path / "s.json", "1:1").of("a") == Remembered()


def test_a_file_that_cannot_be_written_is_said_and_not_fatal(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "gone" / "s.json", "1:1")
    memory.change("a", starts=1)
    assert memory.of("a").starts == 1
    assert memory.fault is not None
    (tmp_path / "gone").mkdir()
    memory.change("a", starts=2)
    assert memory.fault is None
    assert [p.name for p in (tmp_path / "gone").iterdir()] == ["s.json"]
