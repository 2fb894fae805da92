"""Heads of answers: what passes, where the body ends, and what is remembered of them."""

import pytest

from gpuserve.router.answerhead import (
    CHUNKED,
    UNTIL_CLOSE,
    AnswerHead,
    AnswerHeads,
    read_answer_head,
)


def block(*lines: str, status: str = "HTTP/1.1 200 OK") -> bytes:
    return "".join(f"{line}\r\n" for line in (status, *lines)).encode()


def read(*lines: str, status: str = "HTTP/1.1 200 OK") -> AnswerHead:
    head = read_answer_head(block(*lines, status=status))
    assert head is not None
    return head


@pytest.mark.parametrize(
    ("lines", "status", "length", "keep"),
    [
        (["content-length: 12"], "HTTP/1.1 200 OK", 12, True),
        (["Content-Length:12"], "HTTP/1.1 200", 12, True),
        (["transfer-encoding: chunked"], "HTTP/1.1 200 OK", CHUNKED, True),
        (["Transfer-Encoding: Chunked", "Connection: close"], "HTTP/1.1 200 OK", CHUNKED, False),
        ([], "HTTP/1.1 200 OK", UNTIL_CLOSE, False),
        (["content-length: 12"], "HTTP/1.0 200 OK", 12, False),
        (["content-length: 12"], "HTTP/1.1 304 Not Modified", 0, True),
        ([], "HTTP/1.1 204 No Content", 0, True),
        ([], "HTTP/1.1 100 Continue", 0, True),
    ],
)
def test_the_framing_is_told(lines: list[str], status: str, length: int, keep: bool) -> None:
    head = read(*lines, status=status)
    assert (head.length, head.keep) == (length, keep)


@pytest.mark.parametrize(
    "raw",
    [
        block(status="HTTP/2 200 OK"),
        block(status="HTTP/1.1 20 OK"),
        block(status="HTTP/1.1 2000 OK"),
        block(status="ICY 200 OK"),
        block("content-length: 1", "content-length: 1"),
        block("content-length: 1", "transfer-encoding: chunked"),
        block("content-length: +1"),
        block("content-length: 1, 1"),
        block("content-length: 0x1"),
        block("content-length:"),
        block("content-length: " + "1" * 30),
        block("transfer-encoding: gzip, chunked"),
        block("transfer-encoding: chunked", "transfer-encoding: chunked"),
        block("transfer-encoding: chunked", status="HTTP/1.0 200 OK"),
        block("no colon"),
        block(" folded: 1"),
        block("a b: 1"),
        b"HTTP/1.1 200 OK\r\na: 1\nb: 2\r\n",
        b"HTTP/1.1 200 OK\r\na: \x00\r\n",
    ],
)
def test_what_is_no_head_or_says_two_lengths_is_none(raw: bytes) -> None:
    assert read_answer_head(raw) is None
    assert AnswerHeads().read(raw) is None


def test_lines_of_the_connection_and_ours_do_not_pass() -> None:
    head = read(
        "date: today",
        "connection: Keep-Alive, X-Drop, content-length",
        "x-drop: 1",
        "keep-alive: timeout=5",
        "x-request-id: theirs",
        "X-Gpuserve-Model: theirs",
        "Proxy-Authenticate: x",
        "content-length: 2",
    )
    assert head.lines == block("date: today", "content-length: 2")
    assert head.keep


def test_an_old_servers_answer_is_told_in_our_version() -> None:
    assert read("a: 1", status="HTTP/1.0 200 OK").lines == block("a: 1")


@pytest.mark.parametrize(
    ("kind", "events"), [("text/event-stream; charset=utf-8", True), ("application/json", False)]
)
def test_streams_of_events_are_known(kind: str, events: bool) -> None:
    assert read(f"Content-Type: {kind}", "transfer-encoding: chunked").events == events


def test_what_is_remembered_reads_as_what_is_read() -> None:
    heads = AnswerHeads()
    blocks = [
        block("date: 1", f"content-length: {length}", *more, status=status)
        for length in ("1", "23", "0", "007", "x", "4 ", "", "9" * 20)
        for more in ([], ["server: uvicorn"], ["connection: close"])
        for status in ("HTTP/1.1 200 OK", "HTTP/1.1 204 No Content", "HTTP/1.0 200 OK")
    ]
    blocks += [block("transfer-encoding: chunked"), block("a: 1"), block("Content-Length: 5")]
    for _ in range(3):
        for raw in blocks:
            assert heads.read(raw) == read_answer_head(raw), raw


def test_memory_of_heads_is_bounded() -> None:
    heads = AnswerHeads()
    for number in range(1000):
        assert heads.read(block(f"date: {number}", "content-length: 1")) is not None
    assert len(heads._known) <= 64
