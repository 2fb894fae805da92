"""Chunked bodies: followed right however they are split, and mended where they break off."""

import itertools

import pytest

from gpuserve.router.chunks import BEGINNINGS, Chunks

EVENT = b"data: {}\n\n"


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


BODY = chunk(EVENT) + chunk(b"x" * 300, b";a=1") + b"00A\r\n0123456789\r\n"
END = b"0\r\n\r\n"


def fed(pieces: list[bytes]) -> tuple[Chunks, bytes]:
    chunks, passed = Chunks(), b""
    for piece in pieces:
        if chunks.done or chunks.failed:
            break
        passed += chunks.feed(piece)
    return chunks, passed


@pytest.mark.parametrize("end", [END, b"0;x\r\nTrailer: 1\r\nOther: 2\r\n\r\n", b"000\r\n\r\n"])
def test_a_body_split_in_two_at_any_byte_passes_without_its_trailers(end: bytes) -> None:
    raw = BODY + end
    for at in range(len(raw) + 1):
        chunks, passed = fed([raw[:at], raw[at:]])
        assert chunks.done, at
        assert passed == BODY + END, at
        assert chunks.excess == b""


def test_a_body_that_comes_byte_by_byte_passes() -> None:
    chunks, passed = fed([bytes([byte]) for byte in BODY + END])
    assert chunks.done
    assert passed == BODY + END


def test_what_follows_the_end_is_no_part_of_it() -> None:
    chunks, passed = fed([BODY + END + b"HTTP/1.1"])
    assert (chunks.done, passed, chunks.excess) == (True, BODY + END, b"HTTP/1.1")


@pytest.mark.parametrize(
    "raw",
    [
        b"xyz\r\n",
        b"\r\n",
        b"-1\r\n",
        b"+5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"5 5\r\nhello\r\n",
        b"1_0\r\n",
        b"5\nhello\r\n" + b"x" * 5000,
        b"5;a\x00\r\nhello\r\n",
        b"5\r\nhelloX\r\n",
        b"5\r\nhello\n\n",
        b"5\r\nhello\r\r",
        b"f" * 16 + b"\r\n",
        b"1" * 5000,
        b"0\r\nno trailer\r\n\r\n",
        b"0\r\n" + b"a: b\r\n" * 5000,
    ],
)
def test_what_is_no_chunk_fails_wherever_it_is_split(raw: bytes) -> None:
    for at in {1, 2, 3, 5, 7, 8, 9, len(raw)}:
        chunks, _ = fed([BODY, raw[:at], raw[at:]])
        assert chunks.failed, (raw, at)
        assert not chunks.done


def test_a_body_cut_at_any_byte_can_be_ended_at_a_boundary() -> None:
    raw = BODY + b"0\r\nTrailer: 1\r\n"
    for at, split in itertools.product(range(len(raw)), (0, 1)):
        chunks, passed = fed([raw[: at - split], raw[at - split : at]])
        mending = chunks.pad()
        assert mending is not None
        whole, passed_again = fed([passed + mending + chunk(EVENT) + END])
        assert whole.done, (at, split, passed, mending)
        assert passed_again.endswith(chunk(EVENT) + END)


def test_a_chunk_whose_end_is_far_is_not_filled() -> None:
    chunks, passed = fed([b"fffff\r\nabc"])
    assert passed.endswith(b"abc")
    assert chunks.pad() is None


@pytest.mark.parametrize("size", [16, 255, 256, 2047])
def test_the_beginning_of_a_token_says_how_long_its_chunk_is(size: int) -> None:
    event = b"data: ".ljust(size - 2, b"x") + b"\n\n"
    chunk = b"%x\r\n%b\r\n" % (size, event)
    assert BEGINNINGS[chunk[:5]] == len(chunk)
    chunks = Chunks()
    assert chunks.feed(chunk) == chunk
    assert chunks.between
