"""engines/NAME.json: written whole or not at all, read or None."""

from pathlib import Path

from gpuserve.shim.status import EngineStatus, read, write


def test_what_was_written_is_read(tmp_path: Path) -> None:
    status = EngineStatus(launch_id="1", name="a", shim_pid=7, shim_start_ticks=9, phase="x")
    status.allocated["weights_gib"] = 1.5
    write(tmp_path / "a.json", status)
    assert read(tmp_path / "a.json") == status


def test_a_truncated_file_counts_as_none(tmp_path: Path) -> None:
    for text in ("", "{", "[]", "null", '{"launch_id": "1"}'):
        (tmp_path / "a.json").write_text(text)
        assert read(tmp_path / "a.json") is None
    assert read(tmp_path / "missing.json") is None


def test_fields_of_a_newer_version_are_ignored(tmp_path: Path) -> None:
    row = '{"launch_id": "1", "name": "a", "shim_pid": 1, "shim_start_ticks": 2, "novel": 3}'
    (tmp_path / "a.json").write_text(row)
    found = read(tmp_path / "a.json")
    assert found is not None
    assert found.shim_pid == 1
