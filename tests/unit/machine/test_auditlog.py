"""events.jsonl: bounded, whole lines only, and a full disk loses nothing that there is room for."""

from pathlib import Path

from gpuserve.machine.auditlog import MAX_WAITING, AuditLog, read


def lines(path: Path) -> list[bytes]:
    return [line.rstrip() for line in read(path)]


def test_lines_are_read_back_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for number in range(3):
        AuditLog(path).append(b"%d\n" % number)
    assert lines(path) == [b"0", b"1", b"2"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_nothing_there_is_nothing_read(tmp_path: Path) -> None:
    assert lines(tmp_path / "events.jsonl") == []


def test_two_files_of_bounded_size_hold_the_latest(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = AuditLog(path, max_file_bytes=100)
    for number in range(1000):
        log.append(b"%09d\n" % number)
    found = lines(path)
    assert found[-1] == b"000000999"
    assert found == sorted(found)
    assert 10 <= len(found) <= 20
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 200


def test_a_torn_line_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'whole\n{"to')
    AuditLog(path).append(b"next\n")
    assert lines(path) == [b"whole", b'{"to', b"next"]


def test_what_cannot_be_written_waits_and_too_much_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "events.jsonl"
    log = AuditLog(path)
    for number in range(MAX_WAITING + 7):
        log.append(b"%d\n" % number)
    assert log.fault is not None
    assert str(path) in log.fault
    assert log.dropped == 7
    path.parent.mkdir()
    log.flush()
    assert log.fault is None
    assert lines(path) == [b"%d" % number for number in range(7, MAX_WAITING + 7)]
