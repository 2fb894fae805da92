import json
from typing import Any

import pytest

from gpuserve.routing.counting import counted, counting_request
from gpuserve.routing.request import need_of, text_bytes

TURNS = [{"role": "user", "content": "hi"}]
TOOLS = [{"type": "function", "function": {"name": "f"}}]


@pytest.mark.parametrize(
    ("path", "body", "asks", "with_body"),
    [
        (
            "/v1/chat/completions",
            {"model": "auto", "messages": TURNS, "tools": TOOLS, "max_tokens": 5, "stream": True},
            "/tokenize",
            {"messages": TURNS, "tools": TOOLS},
        ),
        ("/v1/completions", {"prompt": "x", "suffix": "y"}, "/tokenize", {"prompt": "x"}),
        (
            "/v1/messages",
            {"system": "s", "messages": TURNS, "max_tokens": 5},
            "/v1/messages/count_tokens",
            {"system": "s", "messages": TURNS},
        ),
        (
            "/v1/responses",
            {"input": "hi", "instructions": "s"},
            "/tokenize",
            {"messages": [{"role": "system", "content": "s"}, *TURNS]},
        ),
        ("/v1/responses", {"input": TURNS}, "/tokenize", {"messages": TURNS}),
    ],
)
def test_an_engine_is_asked_in_its_own_words(
    path: str, body: dict[str, Any], asks: str, with_body: dict[str, Any]
) -> None:
    asked = counting_request(need_of(path, body, 10), "m")
    assert asked is not None
    assert (asked[0], json.loads(asked[1])) == (asks, {"model": "m", **with_body})


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": [1, 2]}),
        ("/v1/completions", {"prompt": ["a", "b"]}),
        ("/v1/responses", {"input": [{"type": "function_call_output", "output": "x"}]}),
        ("/v1/chat/completions", {"messages": None}),
        ("/v1/embeddings", {"input": "x"}),
    ],
)
def test_what_cannot_be_asked_is_not(path: str, body: dict[str, Any]) -> None:
    assert counting_request(need_of(path, body, 10), "m") is None


@pytest.mark.parametrize(
    ("answer", "count"),
    [
        (b'{"count": 12, "max_model_len": 9, "tokens": [1', 12),
        (b'{"input_tokens":7}', 7),
        (b'{"error": {"message": "no"}}', None),
        (b'{"count": "12"}', None),
        (b"", None),
    ],
)
def test_the_figure_is_read_from_the_beginning(answer: bytes, count: int | None) -> None:
    assert counted(answer) == count


def test_escapes_are_counted_as_the_characters_that_they_are() -> None:
    assert text_bytes(json.dumps("你好").encode()) == len('"你好"'.encode())
