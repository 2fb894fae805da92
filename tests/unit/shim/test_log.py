"""The engine's log: whatever the engine writes, lines, rate and files stay bounded."""

from pathlib import Path

from gpuserve.shim import log
from gpuserve.shim.log import EngineLog, Lines


def test_lines_are_cut_at_newlines_and_carriage_returns() -> None:
    lines = Lines()
    assert lines.feed(b"one\ntw") == [b"one"]
    assert lines.feed(b"o\r\n50%\r60%\r") == [b"two", b"50%", b"60%"]
    assert lines.feed(b"last") == []
    assert lines.end() == [b"last"]


def test_any_split_of_a_stream_gives_the_same_lines() -> None:
    data = b"alpha\nbeta\r\ngamma\rdelta\n\n\nend\n"
    whole = Lines().feed(data)
    for cut in range(len(data)):
        lines = Lines()
        assert lines.feed(data[:cut]) + lines.feed(data[cut:]) == whole


def test_a_line_of_ten_megabytes_is_cut_and_held_in_little_memory() -> None:
    lines = Lines()
    found: list[bytes] = []
    for _ in range(160):
        found += lines.feed(b"x" * 65536)
        assert len(lines._rest) <= 2 * log.MAX_LINE_BYTES + 65536
    found += lines.feed(b"tail\nnext\n")
    assert len(found) == 2
    assert found[1] == b"next"


def test_a_long_line_says_how_much_was_cut(tmp_path: Path) -> None:
    EngineLog(tmp_path / "a.log").write(b"y" * (log.MAX_LINE_BYTES + 7))
    assert (tmp_path / "a.log").read_bytes().endswith(b"y [gpuserve] 7 bytes cut\n")


def test_a_full_file_is_rotated_and_old_ones_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    out = EngineLog(path, max_file_bytes=100)
    for number in range(40):
        out.write(b"line %02d of a long story" % number)
    assert path.read_bytes().endswith(b"line 39 of a long story\n")
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["a.log", "a.log.1", "a.log.2"]
    assert all(p.stat().st_size <= 100 for p in tmp_path.iterdir())
    assert out.dropped == 0


def test_a_flood_is_dropped_and_counted(tmp_path: Path) -> None:
    out = EngineLog(tmp_path / "a.log")
    for _ in range(3 * log.MAX_LINES_PER_S):
        out.write(b"again")
    # The flood may span two seconds, each of which lets MAX_LINES_PER_S through.
    assert out.dropped >= log.MAX_LINES_PER_S - 1
    written = (tmp_path / "a.log").read_bytes().count(b"again")
    assert written + out.dropped == 3 * log.MAX_LINES_PER_S


def test_a_disk_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    out = EngineLog(tmp_path / "gone" / "a.log")
    out.write(b"lost")
    assert out.dropped == 1
    (tmp_path / "gone").mkdir()
    out.write(b"kept")
    assert (tmp_path / "gone" / "a.log").read_bytes() == b"kept\n"


def test_a_full_disk_stops_nobody() -> None:
    out = EngineLog(Path("/dev/full"))
    out.write(b"lost")
    assert out.dropped == 1
