"""Each public endpoint over real sockets: routing, errors in the API's shape, what is passed on."""

import io
import json
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from gpuserve.plan import Capabilities
from gpuserve.profile.spec import LimitsSpec, RoutingSpec
from tests.integration.router.conftest import CODE, GENERAL, Box

ROUTED = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": CODE}]}),
    ("/v1/completions", {"prompt": CODE}),
    ("/v1/responses", {"input": CODE}),
    ("/v1/messages", {"messages": [{"role": "user", "content": CODE}], "max_tokens": 9}),
    ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": CODE}]}),
]
NAMED = [
    *[path for path, _ in ROUTED],
    "/v1/embeddings",
    "/v1/rerank",
    "/v1/score",
    "/tokenize",
    "/detokenize",
    "/v1/classify",
    "/v1/something/new",
]


@pytest.mark.parametrize("path", NAMED)
async def test_a_named_model_answers_on_every_endpoint(pair: Box, path: str) -> None:
    body = b'{ "x": [1,  2],"model":"coder" , "prompt": "hi"}'
    answer = await pair.post(path, data=body, headers={"Content-Type": "application/json"})
    assert answer.status == 200
    assert (answer.told("model"), answer.told("route")) == ("coder", "explicit")
    (seen,) = pair.upstreams["coder"].seen
    assert seen.path == path
    assert seen.body == body  # byte for byte


@pytest.mark.parametrize(("path", "body"), ROUTED)
@pytest.mark.parametrize("model", [{"model": "auto"}, {}])
async def test_auto_and_no_model_are_classified(
    pair: Box, path: str, body: dict[str, Any], model: dict[str, str]
) -> None:
    answer = await pair.post(path, json=model | body)
    assert answer.status == 200, answer.body
    assert (answer.told("model"), answer.told("route")) == ("coder", "code")
    assert "python" in (answer.told("reason") or "")
    assert answer.told("fallback") is None
    (seen,) = pair.upstreams["coder"].seen
    assert seen.json == body | {"model": "coder"}


async def test_a_general_prompt_goes_to_the_general_model(pair: Box) -> None:
    answer = await pair.chat(GENERAL)
    assert (answer.told("model"), answer.told("route")) == ("chat", "general")
    assert answer.json["served_by"] == "chat"


async def test_an_alias_reaches_its_model_unchanged(pair: Box) -> None:
    answer = await pair.chat(GENERAL, model="deepseek-coder")
    assert (answer.told("model"), answer.told("route")) == ("coder", "explicit")
    assert pair.upstreams["coder"].seen[0].json["model"] == "deepseek-coder"


async def test_an_explicit_name_beats_classification(pair: Box) -> None:
    assert (await pair.chat(CODE, model="chat")).told("model") == "chat"


async def test_an_unknown_model_is_a_404_that_names_the_known_ones(pair: Box) -> None:
    answer = await pair.chat(model="gpt-9")
    assert answer.status == 404
    error = answer.json["error"]
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    for known in ("coder", "deepseek-coder", "chat", "auto"):
        assert known in error["message"]


async def test_a_model_that_loads_is_a_503_with_retry_after_and_the_reason(pair: Box) -> None:
    loading = pair.engine(
        "coder", state="Starting", routable=False, reason="loading weights", retry_after_s=7.2
    )
    pair.write(loading, pair.engine("chat"))
    await pair.reload()
    answer = await pair.chat(model="coder")
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "8"
    assert "loading weights" in answer.json["error"]["message"]
    assert answer.json["error"]["type"] == "server_error"


async def test_the_other_model_serves_while_the_first_choice_loads(pair: Box) -> None:
    loading = pair.engine("coder", state="Starting", routable=False, reason="loading weights")
    pair.write(loading, pair.engine("chat"))
    await pair.reload()
    answer = await pair.chat(CODE)
    assert (answer.status, answer.told("model"), answer.told("route")) == (200, "chat", "code")
    assert answer.told("fallback") == "coder: Starting, loading weights"
    assert pair.upstreams["chat"].seen[0].json["model"] == "chat"
    counted = (await pair.get("/metrics")).body.decode()
    assert 'gpuserve_router_fallbacks_total{model="chat"} 1.0' in counted


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b"{", "not valid JSON"),
        (b"[1]", "array"),
        (b'{"model": 5}', "number"),
        (b'{"model":"chat","model":"coder"}', "twice"),
        # An id of its own: it stands in the environment of what the test starts.
        pytest.param(b'{"a":' * 100_000, "nested too deeply", id="nested"),
        (b'{"model": "\xff"}', "UTF-8"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_a_bad_body_is_a_400_that_says_what_is_wrong(
    pair: Box, path: str, body: bytes, says: str
) -> None:
    answer = await pair.post(path, data=body)
    assert answer.status == 400
    assert says in answer.json["error"]["message"]
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert answer.json.get("type") == ("error" if path == "/v1/messages" else None)
    assert not pair.upstreams["chat"].seen


async def test_a_body_over_the_limit_is_a_413_before_it_is_read(pair: Box) -> None:
    pair.write(*pair.table.upstreams, limits=LimitsSpec(max_body_bytes=1000))
    await pair.reload()
    assert (await pair.chat("x" * 2000)).status == 413

    async def pieces() -> Any:
        for _ in range(20):
            yield b" " * 100

    answer = await pair.post("/v1/messages", data=pieces())
    assert answer.status == 413
    assert answer.json["error"]["type"] == "request_too_large"
    assert (await pair.chat("x")).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("POST", "/sleep", 404, "not_found"),
        ("POST", "/v1/%2e%2e/sleep", 404, "not_found"),
        ("POST", "/v1/load_lora_adapter", 404, "not_found"),
        ("GET", "/", 404, "not_found"),
    ],
)
async def test_wrong_methods_and_paths_are_refused_in_openais_shape(
    pair: Box, method: str, path: str, status: int, code: str
) -> None:
    url = URL(pair.url + path, encoded=True)
    async with pair.http.request(method, url, data=b'{"model":"coder"}') as answer:
        assert answer.status == status
        assert (await answer.json())["error"]["code"] == code
        assert answer.headers["x-request-id"]
        assert ("Allow" in answer.headers) == (status == 405)
    assert not pair.upstreams["coder"].seen


async def test_embeddings_without_a_model_go_to_the_only_one_that_embeds(pair: Box) -> None:
    await pair.upstream("bge")
    embeds = pair.engine("bge", capabilities=Capabilities(embeddings=True))
    pair.write(*pair.table.upstreams, embeds)
    await pair.reload()
    answer = await pair.post("/v1/embeddings", json={"input": "hi"})
    assert (answer.status, answer.told("model"), answer.told("route")) == (200, "bge", "only")
    assert pair.upstreams["bge"].seen[0].json == {"model": "bge", "input": "hi"}


async def test_a_request_that_names_no_model_lists_the_candidates(pair: Box) -> None:
    answer = await pair.post("/tokenize", json={"prompt": "hi"})
    assert answer.status == 400
    assert "coder, chat" in answer.json["error"]["message"]


async def test_headers_pass_but_for_those_of_one_connection(pair: Box) -> None:
    sent = {
        "Authorization": "Bearer secret",
        "X-Request-Id": "my-id",
        "X-Custom": "1",
        "Connection": "keep-alive, X-Drop",
        "X-Drop": "1",
        "TE": "trailers",
    }
    answer = await pair.post("/v1/completions", json={"model": "chat"}, headers=sent)
    assert (answer.headers["x-request-id"], answer.headers["x-engine"]) == ("my-id", "chat")
    seen = {name.lower(): v for name, v in pair.upstreams["chat"].seen[0].headers.items()}
    assert (seen["authorization"], seen["x-custom"]) == ("Bearer secret", "1")
    assert seen["x-request-id"] == "my-id"
    assert not {"x-drop", "te"} & set(seen)


async def test_a_request_without_an_id_gets_one_that_both_sides_see(pair: Box) -> None:
    answer = await pair.chat(model="chat")
    seen = {name.lower(): v for name, v in pair.upstreams["chat"].seen[0].headers.items()}
    assert answer.headers["x-request-id"] == seen["x-request-id"] != ""


async def test_an_engines_own_error_comes_through_as_it_is(pair: Box) -> None:
    pair.upstreams["chat"].status = 422
    answer = await pair.chat(model="chat")
    assert (answer.status, answer.json["served_by"]) == (422, "chat")


async def test_a_reason_in_any_script_makes_a_valid_header(pair: Box) -> None:
    answer = await pair.chat("写一个函数，反转字符串\r\nX-Evil: 1")
    assert (answer.told("model"), answer.told("route")) == ("coder", "code")
    assert (answer.told("reason") or "").isascii()
    assert "X-Evil" not in answer.headers


async def test_a_multipart_form_reaches_the_model_that_it_names(pair: Box) -> None:
    form = aiohttp.FormData()
    form.add_field("file", b"\x00\x01", filename="a.wav")
    form.add_field("model", "chat")
    answer = await pair.post("/v1/audio/transcriptions", data=form)
    assert (answer.status, answer.told("model")) == (200, "chat")
    assert b"a.wav" in pair.upstreams["chat"].seen[0].body


async def test_models_lists_names_aliases_and_auto(pair: Box) -> None:
    listed = (await pair.get("/v1/models")).json["data"]
    assert [card["id"] for card in listed] == ["coder", "deepseek-coder", "chat", "auto"]
    assert listed[1]["root"] == "coder"
    assert (listed[0]["owned_by"], listed[0]["max_model_len"]) == ("gpuserve", 4096)
    assert (await pair.get("/v1/models/deepseek-coder")).json == listed[1]
    assert (await pair.get("/v1/models/nope")).status == 404


async def test_readyz_names_the_dark_routes(pair: Box) -> None:
    assert (await pair.get("/readyz")).status == 200
    failed = pair.engine("coder", state="Failed", routable=False, reason="out of memory")
    pair.write(failed, pair.engine("chat"))
    await pair.reload()
    answer = await pair.get("/readyz")
    assert answer.status == 503
    assert answer.json["dark"] == {"code": "coder: Failed, out of memory"}
    assert (await pair.get("/healthz")).status == 200


@pytest.mark.parametrize(
    ("state", "after"), [("Failed", None), ("Queued", "5"), ("Starting", "5"), ("BackingOff", "5")]
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
async def test_a_model_that_is_down_says_why_and_when_if_ever_to_try_again(
    pair: Box, path: str, state: str, after: str | None
) -> None:
    off: dict[str, Any] = {"state": state, "routable": False, "reason": "out of memory"}
    pair.write(pair.engine("coder", **off), pair.engine("chat"))
    await pair.reload()
    refused = await pair.post(path, json={"model": "coder"})
    assert (refused.status, refused.headers.get("Retry-After")) == (503, after)
    assert f"coder is not ready: {state}, out of memory" in refused.json["error"]["message"]
    passed_over = await pair.chat(CODE)
    assert passed_over.told("fallback") == f"coder: {state}, out of memory"
    card = (await pair.get("/v1/models/coder")).json
    assert (card["state"], card["reason"]) == (state, "out of memory")


async def test_without_a_table_everything_is_starting_and_the_process_lives(box: Box) -> None:
    await box.worker()
    answer = await box.chat()
    assert (answer.status, answer.json["error"]["code"]) == (503, "starting")
    assert answer.headers["Retry-After"] == "1"
    assert (await box.get("/healthz")).status == 200
    assert (await box.get("/readyz")).status == 503
    assert (await box.get("/v1/models")).json["data"] == []


async def test_without_routing_auto_means_the_only_model(box: Box) -> None:
    await box.upstream("solo")
    box.write(box.engine("solo"), routing=RoutingSpec())
    await box.worker()
    for body in ({"model": "auto"}, {}):
        answer = await box.chat(**body)
        assert (answer.told("model"), answer.told("route")) == ("solo", "only")
    assert box.upstreams["solo"].seen[1].json["model"] == "solo"


async def test_a_large_body_arrives_whole(pair: Box) -> None:
    body = {"model": "coder", "prompt": "é" * (3 << 20)}
    answer = await pair.post("/v1/completions", data=io.BytesIO(json.dumps(body).encode()))
    assert answer.status == 200
    assert pair.upstreams["coder"].seen[0].json == body


async def test_the_upstream_may_be_a_server_on_tcp_with_v1_in_its_url(pair: Box) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"path": request.path})

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    async with TestServer(app) as server:
        elsewhere = replace(
            pair.engine("remote", names=("bge-m3", "other")),
            url=str(server.make_url("/v1")),
            socket=None,
            managed=False,
        )
        pair.write(*pair.table.upstreams, elsewhere)
        await pair.reload()
        got = await pair.post("/v1/embeddings", json={"model": "other"})
    assert (got.json, got.told("model")) == ({"path": "/v1/embeddings"}, "other")
