from typing import Any

import pytest

from gpuserve.routing.body import BadBody
from gpuserve.routing.request import need_of, task_of


@pytest.mark.parametrize(
    ("path", "task"),
    [
        ("/v1/chat/completions", "chat"),
        ("/v1/chat/completions/render", "chat"),
        ("/v1/completions", "text"),
        ("/v1/responses", "chat"),
        ("/v1/responses/resp_1", "other"),
        ("/v1/messages", "chat"),
        ("/v1/messages/count_tokens", "chat"),
        ("/v1/embeddings", "pool"),
        ("/v1/rerank", "pool"),
        ("/tokenize", "count"),
        ("/v1/audio/transcriptions", "other"),
        ("/v1/chat/completionsx", "other"),
    ],
)
def test_the_path_tells_the_task(path: str, task: str) -> None:
    assert task_of(path) == task


def test_what_a_body_asks_for_is_read_from_it() -> None:
    body: dict[str, Any] = {
        "model": "m",
        "stream": True,
        "tools": [{}],
        "max_tokens": 50,
        "messages": [{"role": "user", "content": "x"}],
    }
    need = need_of("/v1/chat/completions", body, 4000)
    assert (need.model, need.stream, need.tools, need.images) == ("m", True, True, False)
    assert (need.tokens, need.least_tokens) == (1050, 250)


@pytest.mark.parametrize("kind", ["image_url", "input_image", "image"])
def test_an_image_is_seen_in_any_apis_parts_and_its_bytes_are_no_tokens(kind: str) -> None:
    body = {"messages": ["x", {"content": [5, {"type": kind}]}]}
    need = need_of("/v1/chat/completions", body, 1 << 20)
    assert need.images
    assert (need.tokens, need.least_tokens) == (0, 0)


@pytest.mark.parametrize("value", ["9", None, -1, True, 1.5])
def test_a_limit_that_is_no_count_counts_for_nothing(value: Any) -> None:
    assert need_of("/v1/completions", {"max_tokens": value}, 40).tokens == 10


@pytest.mark.parametrize("kind", [[], {}, 5, None])
def test_a_part_of_an_odd_type_is_no_image(kind: Any) -> None:
    body = {"messages": [{"content": [{"type": kind}]}]}
    assert not need_of("/v1/chat/completions", body, 10).images


def test_a_model_of_the_wrong_type_is_refused() -> None:
    with pytest.raises(BadBody):
        need_of("/v1/completions", {"model": 1}, 10)
