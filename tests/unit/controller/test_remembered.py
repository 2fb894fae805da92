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


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "\0\0", "null", '{"instance": "1:1"}'),
        '{"instance": "1:1", "engines": {"a": {"stopped": "yes"}}}',
        '{"instance": "1:1", "engines": {"a": 1}}',
        '{"instance": "1:1", "engines": {"a": {"ends_unix_s": ["x"]}}}',
    ],
)
def test_a_damaged_file_counts_as_empty_is_said_and_put_aside(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.json").write_text(text)
    memory = Memory(tmp_path / "s.json", "1:1")
    assert memory.of("a") == Remembered()
    assert memory.lost is not None
    assert (tmp_path / "s.json.damaged").read_text() == text
    memory.change("a", stopped=True)
    again = Memory(tmp_path / "s.json", "1:1")
    assert (again.of("a").stopped, again.lost) == (True, None)


def test_every_truncation_of_a_file_is_either_whole_or_said(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    Memory(path, "1:1").change("a", stopped=True)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert Memory(path, "1:1").lost is not None


def test_a_first_start_has_lost_nothing(tmp_path: Path) -> None:
    assert Memory(tmp_path / "s.json", "1:1").lost is None


def test_keys_of_a_later_release_are_passed_over(tmp_path: Path) -> None:
    text = '{"instance": "1:1", "engines": {"a": {"stopped": true, "novel": 1}}}'
    (tmp_path / "s.json").write_text(text)
    assert Memory(tmp_path / "s.json", "1:1").of("a") == Remembered(stopped=True)


def test_a_file_that_cannot_be_written_is_said_and_not_fatal(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "gone" / "s.json", "1:1")
    memory.change("a", starts=1)
    assert memory.of("a").starts == 1
    assert memory.fault is not None
    (tmp_path / "gone").mkdir()
    memory.change("a", starts=2)
    assert memory.fault is None
    assert [p.name for p in (tmp_path / "gone").iterdir()] == ["s.json"]
