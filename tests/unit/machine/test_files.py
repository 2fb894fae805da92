"""Files that others read, also on a disk that is full."""

import stat
from pathlib import Path

import pytest

from gpuserve.machine.files import BLOCK_BYTES, overwrite_file, replace_file


def test_a_file_that_cannot_be_replaced_stays_and_leaves_no_draft(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "a.new").mkdir()
    with pytest.raises(OSError):
        replace_file(tmp_path / "a" / "below", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    replace_file(tmp_path / "b", b"new")
    assert (tmp_path / "b").read_bytes() == b"new"
    assert not (tmp_path / "b.new").exists()


def test_what_is_overwritten_keeps_its_blocks_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "a"
    overwrite_file(path, b"x" * (BLOCK_BYTES + 1))
    inode = path.stat().st_ino
    overwrite_file(path, b'{"short": 1}')
    assert path.stat().st_ino == inode
    assert path.stat().st_size == BLOCK_BYTES
    assert path.read_bytes().strip() == b'{"short": 1}'
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
