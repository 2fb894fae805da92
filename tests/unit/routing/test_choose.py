from dataclasses import replace
from typing import Any

import pytest

from gpuserve.plan import Capabilities
from gpuserve.profile.spec import RoutingSpec
from gpuserve.routing.choose import (
    RETRY_AFTER_S,
    Choice,
    Refusal,
    choose,
    dark_routes,
    public_names,
)
from gpuserve.routing.request import Need, need_of
from gpuserve.routing.table import RoutingTable, Upstream
from tests.unit.routing.prompts import an_unsure_prompt

CODE = {"messages": [{"role": "user", "content": "Write a Python function that parses yaml"}]}
GENERAL = {"messages": [{"role": "user", "content": "Write a poem about a garden"}]}
UNSURE = {"messages": [{"role": "user", "content": an_unsure_prompt()}]}
ABLE = Capabilities(chat=True, tools=True, images=True, embeddings=False, max_model_len=8192)
ROUTING = RoutingSpec(code="coder", general="chat", default="chat")


def engine(name: str, *aliases: str, **fields: Any) -> Upstream:
    given: dict[str, Any] = {"state": "Ready", "routable": True, "capabilities": ABLE}
    return Upstream(name=name, names=(name, *aliases), url="http://x", **(given | fields))


def table(*upstreams: Upstream, routing: RoutingSpec = ROUTING) -> RoutingTable:
    return RoutingTable(instance="i", generation=1, routing=routing, upstreams=upstreams)


PAIR = table(engine("coder", "deepseek"), engine("chat"))


def need(body: dict[str, Any], path: str = "/v1/chat/completions", size: int = 100) -> Need:
    return need_of(path, body, size)


def chosen(asked: Need, among: RoutingTable, dark: frozenset[str] = frozenset()) -> Choice:
    choice = choose(asked, among, dark)
    assert isinstance(choice, Choice), choice
    return choice


def refused(asked: Need, among: RoutingTable, dark: frozenset[str] = frozenset()) -> Refusal:
    refusal = choose(asked, among, dark)
    assert isinstance(refusal, Refusal), refusal
    return refusal


@pytest.mark.parametrize(
    ("body", "model", "route"),
    [
        (CODE, "coder", "code"),
        (GENERAL, "chat", "general"),
        (CODE | {"model": "auto"}, "coder", "code"),
        (CODE | {"model": "chat"}, "chat", "explicit"),
        (GENERAL | {"model": "deepseek"}, "coder", "explicit"),
    ],
)
def test_names_win_and_auto_is_classified(body: dict[str, Any], model: str, route: str) -> None:
    choice = chosen(need(body), PAIR)
    assert (choice.upstream.name, choice.model, choice.route) == (model, model, route)
    assert choice.rewrite == (body.get("model") != model), "aliases may be news to the engine"
    assert choice.fallback is None


@pytest.mark.parametrize(
    ("asked", "rewrite"),
    [("auto", False), ("deepseek", False), ("coder", False), (None, True), ("newest", True)],
)
def test_a_body_stays_as_it_is_where_the_server_knows_its_name(
    asked: str | None, rewrite: bool
) -> None:
    coder = replace(
        PAIR.upstreams[0],
        names=("coder", "deepseek", "newest"),
        served_names=("coder", "deepseek", "auto"),
    )
    table = replace(PAIR, upstreams=(coder, *PAIR.upstreams[1:]))
    body = CODE if asked is None else CODE | {"model": asked}
    choice = chosen(need(body), table)
    assert (choice.model, choice.rewrite) == ("coder", rewrite)


def test_the_name_that_asks_for_routing_is_the_profiles() -> None:
    smart = replace(PAIR, routing=replace(ROUTING, auto="smart"))
    assert chosen(need(CODE | {"model": "smart"}), smart).model == "coder"
    assert refused(need(CODE | {"model": "auto"}), smart).status == 404


@pytest.mark.parametrize(("default", "route"), [("chat", "general"), ("coder", "code")])
def test_an_unsure_verdict_goes_to_the_default(default: str, route: str) -> None:
    choice = chosen(need(UNSURE), replace(PAIR, routing=replace(ROUTING, default=default)))
    assert (choice.model, choice.route) == (default, route)
    assert choice.reason.startswith("default: unsure")
    assert choice.verdict is not None
    assert choice.verdict.route == "unsure"


def test_a_default_of_its_own_is_a_route_of_its_own() -> None:
    three = table(*PAIR.upstreams, engine("third"), routing=replace(ROUTING, default="third"))
    choice = chosen(need(UNSURE), three)
    assert (choice.model, choice.route) == ("third", "default")


def test_an_unknown_model_is_a_404_with_the_known_ones() -> None:
    refusal = refused(need({"model": "x" * 500}), PAIR)
    assert (refusal.status, refusal.code) == (404, "model_not_found")
    assert "coder, deepseek, chat, auto" in refusal.message
    assert len(refusal.message) < 300


def test_a_named_model_that_loads_is_a_503_with_its_own_patience() -> None:
    loading = engine(
        "coder", state="Starting", routable=False, reason="loading weights", retry_after_s=12.5
    )
    refusal = refused(need({"model": "coder"}), table(loading, engine("chat")))
    assert (refusal.status, refusal.retry_after_s) == (503, 12.5)
    assert refusal.message == "coder is not ready: Starting, loading weights"


def test_the_other_model_stands_in_and_says_for_whom() -> None:
    down = table(engine("coder", state="BackingOff", routable=False), engine("chat"))
    choice = chosen(need(CODE), down)
    assert (choice.model, choice.route, choice.fallback) == ("chat", "code", "coder: BackingOff")


def test_an_upstream_that_refused_a_moment_ago_is_passed_over() -> None:
    choice = chosen(need(CODE), PAIR, frozenset({"coder"}))
    assert (choice.model, choice.fallback) == ("chat", "coder: refuses connections")
    refusal = refused(need({"model": "coder"}), PAIR, frozenset({"coder"}))
    assert (refusal.status, refusal.retry_after_s) == (503, 1.0)


@pytest.mark.parametrize("state", ["Queued", "Starting", "BackingOff", "Unready", "Stopped"])
def test_a_model_that_may_come_back_says_when_to_try_again(state: str) -> None:
    down = table(engine("coder", state=state, routable=False, reason="because"))
    refusal = refused(need(CODE | {"model": "coder"}), down)
    assert refusal.retry_after_s == RETRY_AFTER_S
    assert refusal.message == f"coder is not ready: {state}, because"


@pytest.mark.parametrize("dark", [frozenset[str](), frozenset({"coder", "chat"})])
@pytest.mark.parametrize("model", ["coder", "auto"])
def test_a_model_that_failed_says_why_and_not_when(model: str, dark: frozenset[str]) -> None:
    off: dict[str, Any] = {"state": "Failed", "routable": False, "reason": "exit 2: no such flag"}
    down = table(engine("coder", **off, retry_after_s=60), engine("chat", **off))
    refusal = refused(need(CODE | {"model": model}), down, dark)
    assert (refusal.status, refusal.retry_after_s) == (503, None)
    assert "coder is not ready: Failed, exit 2: no such flag" in refusal.message


def test_when_nobody_is_ready_every_reason_is_told_and_the_shortest_wait() -> None:
    down = table(
        engine("coder", state="Failed", routable=False, reason="out of memory", retry_after_s=60),
        engine("chat", state="Starting", routable=False, retry_after_s=4),
    )
    refusal = refused(need(GENERAL), down)
    assert (refusal.status, refusal.retry_after_s) == (503, 4)
    assert "coder is not ready: Failed, out of memory" in refusal.message
    assert "chat is not ready: Starting" in refusal.message


@pytest.mark.parametrize(
    ("fields", "asks", "says"),
    [
        ({"chat": False}, {}, "has no chat template"),
        ({"tools": False}, {"tools": [{"type": "function"}]}, "tool call parser"),
        ({"embeddings": True}, {}, "is an embedding model"),
    ],
)
def test_a_model_that_cannot_do_it_is_passed_over_and_said_why(
    fields: dict[str, Any], asks: dict[str, Any], says: str
) -> None:
    unable = engine("coder", capabilities=replace(ABLE, **fields))
    choice = chosen(need(CODE | asks), table(unable, engine("chat")))
    assert choice.model == "chat"
    assert says in (choice.fallback or "")
    refusal = refused(
        need(CODE | asks), table(unable, engine("chat", capabilities=replace(ABLE, **fields)))
    )
    assert (refusal.status, refusal.code) == (400, "no_capable_model")
    assert refusal.message.count(says) == 2


def test_an_image_goes_to_a_model_that_no_route_names_when_only_it_can() -> None:
    blind = replace(ABLE, images=False)
    three = table(
        engine("coder", capabilities=blind), engine("chat", capabilities=blind), engine("vision")
    )
    parts = [{"type": "image_url", "image_url": {"url": "data:"}}, {"type": "text", "text": "?"}]
    body = {"messages": [{"role": "user", "content": parts}]}
    choice = chosen(need(body), three)
    assert choice.model == "vision"
    assert "does not take images" in (choice.fallback or "")
    # With text alone it is never asked.
    assert chosen(need(CODE), three).model == "coder"


def test_a_prompt_that_hardly_fits_goes_to_the_roomier_model() -> None:
    small = engine("coder", capabilities=replace(ABLE, max_model_len=1000))
    choice = chosen(need(CODE, size=8000), table(small, engine("chat")))
    assert choice.model == "chat"
    assert choice.fallback == "coder: holds 1000 tokens, the request has about 2000"
    # When none has the room by the usual measure, the engine that counts exactly decides.
    both = table(small, engine("chat", capabilities=replace(ABLE, max_model_len=1000)))
    assert chosen(need(CODE, size=8000), both).model == "coder"


def test_a_tool_choice_of_none_needs_no_tools() -> None:
    deaf = table(engine("coder", capabilities=replace(ABLE, tools=False)), engine("chat"))
    body = CODE | {"tools": [{"type": "function"}], "tool_choice": "none"}
    assert chosen(need(body), deaf).model == "coder"


def test_embeddings_without_a_model_go_to_the_only_one_that_embeds() -> None:
    bge = engine("bge", capabilities=Capabilities(embeddings=True))
    choice = chosen(need({"input": "x"}, "/v1/embeddings"), table(*PAIR.upstreams, bge))
    assert (choice.model, choice.route, choice.rewrite) == ("bge", "only", True)
    nobody = refused(need({"input": "x"}, "/v1/embeddings"), PAIR)
    assert (nobody.status, nobody.code) == (400, "no_capable_model")


@pytest.mark.parametrize(
    ("embeds", "path"),
    [(False, "/v1/embeddings"), (False, "/v1/rerank"), (True, "/v1/completions")],
)
def test_a_named_model_of_the_other_kind_is_refused_in_words(*, embeds: bool, path: str) -> None:
    one = engine("m", capabilities=Capabilities(embeddings=embeds))
    refusal = refused(need({"model": "m"}, path), table(one))
    assert (refusal.status, refusal.code) == (400, "no_capable_model")
    assert "embed" in refusal.message
    assert chosen(need({"model": "m"}, "/tokenize"), table(one)).model == "m"


def test_several_that_embed_are_listed() -> None:
    elsewhere = Upstream(name="tei", names=("a", "b"), url="http://x", managed=False, routable=True)
    refusal = refused(need({"input": "x"}, "/v1/rerank"), table(*PAIR.upstreams, elsewhere))
    assert (refusal.status, refusal.code, refusal.param) == (400, "model_required", "model")
    assert refusal.message.endswith("one of: a, b")


def test_a_server_elsewhere_is_asked_for_the_model_by_the_name_that_was_used() -> None:
    elsewhere = Upstream(name="tei", names=("a", "b"), url="http://x", managed=False, routable=True)
    choice = chosen(need({"model": "b"}), table(elsewhere))
    assert (choice.upstream.name, choice.model) == ("tei", "b")


def test_without_routing_auto_means_the_only_model_and_nothing_with_two() -> None:
    none = RoutingSpec()
    assert chosen(need(CODE), table(engine("solo"), routing=none)).route == "only"
    assert chosen(need({"model": "auto"}), table(engine("solo"), routing=none)).model == "solo"
    two = table(engine("a"), engine("b"), routing=none)
    assert refused(need({"model": "auto"}), two).status == 404
    assert refused(need(CODE), two).code == "model_required"
    assert list(public_names(two)) == ["a", "b"]


def test_tokenize_with_auto_is_counted_by_the_model_that_would_answer() -> None:
    assert chosen(need(CODE | {"model": "auto"}, "/tokenize"), PAIR).model == "coder"
    assert refused(need(CODE, "/tokenize"), PAIR).code == "model_required"


def test_a_response_made_before_is_asked_for_by_id_only_where_one_model_is() -> None:
    asked = need({}, "/v1/responses/resp_1/cancel")
    assert refused(asked, PAIR).code == "model_required"
    assert chosen(asked, table(engine("solo"), routing=RoutingSpec())).model == "solo"


def test_dark_routes_are_named_with_the_reason() -> None:
    down = table(engine("coder", state="Failed", routable=False, reason="oom"), engine("chat"))
    assert dark_routes(down) == {"code": "coder: Failed, oom"}
    assert set(dark_routes(PAIR, frozenset({"chat"}))) == {"general", "default"}
    assert dark_routes(replace(down, routing=RoutingSpec())) == {"coder": "coder: Failed, oom"}
    assert dark_routes(PAIR) == {}
