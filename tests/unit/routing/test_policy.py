"""The order of the steps, and what happens when a route's model cannot, may not or need not."""

from dataclasses import replace
from typing import Any

import pytest

from gpuserve.plan import Capabilities
from gpuserve.profile.load import load_text
from gpuserve.profile.spec import RouteSpec, RoutingSpec
from gpuserve.routing.choose import Choice, Refusal, choose
from gpuserve.routing.classify import UNSURE as UNSURE_BAND
from gpuserve.routing.request import Need, need_of
from gpuserve.routing.table import RoutingTable, Upstream, stated_capabilities
from tests.unit.routing.prompts import an_unsure_prompt

CODE = "Write a Python function that parses yaml"
GENERAL = "Write a poem about a garden"
UNSURE = an_unsure_prompt()
ABLE = Capabilities(
    chat=True, tools=True, images=False, embeddings=False, max_model_len=8192, max_num_seqs=4
)
RULES = (
    RouteSpec(index=0, name="sql", model="sqlcoder", keywords=("select",), fallback=("coder",)),
    RouteSpec(index=1, name="code", keywords=("terraform",)),
)
ROUTING = RoutingSpec(code="coder", general="chat", default="chat", rules=RULES)


def engine(name: str, *aliases: str, able: Capabilities = ABLE, **fields: Any) -> Upstream:
    given: dict[str, Any] = {"state": "Ready", "routable": True, "capabilities": able}
    return Upstream(name=name, names=(name, *aliases), url="http://x", **(given | fields))


def table(*upstreams: Upstream, **routing: Any) -> RoutingTable:
    return RoutingTable(
        instance="i", generation=1, routing=replace(ROUTING, **routing), upstreams=upstreams
    )


TRIO = (engine("coder", "deepseek"), engine("chat"), engine("sqlcoder"))


def ask(text: str, path: str = "/v1/chat/completions", size: int = 100, **fields: Any) -> Need:
    headers = fields.pop("headers", {})
    body = {"messages": [{"role": "user", "content": text}], **fields}
    return need_of(path, body, size, headers)


def chosen(need: Need, among: RoutingTable, **kw: Any) -> Choice:
    choice = choose(need, among, **kw)
    assert isinstance(choice, Choice), choice
    return choice


def refused(need: Need, among: RoutingTable, **kw: Any) -> Refusal:
    refusal = choose(need, among, **kw)
    assert isinstance(refusal, Refusal), refusal
    return refusal


@pytest.mark.parametrize(
    ("need", "step", "route", "model", "reason"),
    [
        (ask("select", model="chat"), "explicit", "explicit", "chat", "explicit: the request name"),
        (
            ask("select", model="chat", headers={"x-gpuserve-route": "code"}),
            *("explicit", "explicit", "chat", "explicit: the request names chat"),
        ),
        (
            ask("select", headers={"x-gpuserve-model": "deepseek"}),
            *("header", "explicit", "coder", "header: x-gpuserve-model names coder by its alias"),
        ),
        (
            ask("select", model="auto", headers={"x-gpuserve-route": " general "}),
            *("header", "general", "chat", "header: x-gpuserve-route asks for general"),
        ),
        (ask("SELECT me"), "rule", "sql", "sqlcoder", 'rule sql: keyword "select"'),
        (ask("terraform"), "rule", "code", "coder", 'rule code: keyword "terraform"'),
        (ask(CODE), "classifier", "code", "coder", "classifier: looks code (p(code)="),
        (ask(GENERAL), "classifier", "general", "chat", "classifier: looks general (p(code)="),
        (ask(UNSURE), "default", "general", "chat", "default: unsure (p(code)="),
    ],
)
def test_the_steps_decide_in_order_and_say_so(
    need: Need, step: str, route: str, model: str, reason: str
) -> None:
    choice = chosen(need, table(*TRIO))
    assert (choice.step, choice.route, choice.model) == (step, route, model)
    assert choice.reason.startswith(reason)
    assert choice.rewrite == (step != "explicit")


@pytest.mark.parametrize(("header", "what"), [("route", "routes"), ("model", "models")])
def test_a_header_that_asks_for_what_does_not_exist_is_a_400_with_what_does(
    header: str, what: str
) -> None:
    refusal = refused(ask(CODE, headers={f"x-gpuserve-{header}": "x" * 500}), table(*TRIO))
    assert (refusal.status, refusal.code) == (400, f"unknown_{header}")
    assert f"known {what}: " in refusal.message
    assert ("sql" in refusal.message, "deepseek" in refusal.message) == (
        header == "route" or "sqlcoder" in refusal.message,
        header == "model",
    )
    assert len(refusal.message) < 400


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "def f(", "suffix": "return x"},
        {"prompt": "<|fim_prefix|>def f(<|fim_suffix|>return x<|fim_middle|>"},
        {"prompt": "<fim_prefix>def f(<fim_suffix>return x<fim_middle>"},
        {"prompt": "<｜fim▁begin｜>def f(<｜fim▁hole｜>return x<｜fim▁end｜>"},
        {"prompt": "<PRE> def f( <SUF>return x <MID>"},
        {"prompt": "[SUFFIX]return x[PREFIX]def f("},
        {"prompt": "<|fim_prefix|>" + "x\n" * 50_000 + "<|fim_suffix|>x<|fim_middle|>"},
    ],
    ids=lambda body: body["prompt"][:12],
)
def test_fill_in_the_middle_goes_to_code_unless_a_rule_says_otherwise(body: dict[str, Any]) -> None:
    need = need_of("/v1/completions", body, 100)
    choice = chosen(need, table(*TRIO))
    assert (choice.step, choice.route, choice.model) == ("kind", "code", "coder")
    fim = RouteSpec(index=0, name="fim", model="sqlcoder", kind="fim")
    choice = chosen(need, table(*TRIO, rules=(fim,)))
    assert (choice.step, choice.route, choice.model) == ("rule", "fim", "sqlcoder")


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "a poem about spring"},
        {"prompt": "a poem", "suffix": ""},
        {"prompt": "what does <fim_prefix> mean"},
        {"prompt": [1, 2, 3]},
        {"prompt": None, "suffix": 7},
        {"prompt": []},
    ],
)
def test_other_completions_are_not_filled_in(body: dict[str, Any]) -> None:
    assert chosen(need_of("/v1/completions", body, 100), table(*TRIO)).step != "kind"


@pytest.mark.parametrize(
    ("threshold", "label"),
    [((0.999999,), "general"), ((0.000001,), "code"), ((0.000001, 0.999999), "unsure")],
)
def test_the_threshold_is_the_profiles(threshold: tuple[float, ...], label: str) -> None:
    choice = chosen(ask(UNSURE), table(*TRIO, threshold=threshold))
    assert choice.verdict is not None
    assert choice.verdict.route == label
    assert choice.step == ("default" if label == "unsure" else "classifier")


def test_one_threshold_moves_the_band_of_the_unsure_along() -> None:
    band = table(*TRIO, threshold=(0.9,)).unsure
    assert 0.8 < band[0] < 0.9 < band[1] < 0.95
    assert table(*TRIO).unsure == UNSURE_BAND
    assert table(*TRIO, threshold=(0.2, 0.7)).unsure == (0.2, 0.7)


def test_a_route_has_fallbacks_of_its_own_or_those_of_the_profile() -> None:
    down = [replace(u, routable=False, state="Starting") for u in TRIO]
    coder, chat, sqlcoder = TRIO
    choice = chosen(ask("select"), table(coder, chat, down[2]))
    assert (choice.route, choice.model, choice.wanted) == ("sql", "coder", "sqlcoder")
    assert (choice.fallback, choice.cause) == ("sqlcoder: Starting", "not_ready")
    refusal = refused(ask("select"), table(down[0], chat, down[2]))
    assert (refusal.status, refusal.model, refusal.route) == (503, "sqlcoder", "sql")
    assert refusal.reason == 'rule sql: keyword "select"'
    assert refused(ask(CODE), table(down[0], chat, fallback=())).status == 503
    assert chosen(ask(CODE), table(down[0], chat, sqlcoder, fallback=("sqlcoder",))).model == (
        "sqlcoder"
    )


def test_a_prompt_that_fits_nowhere_is_refused_with_the_figures() -> None:
    small = replace(ABLE, max_model_len=1000)
    refusal = refused(ask(CODE, size=100_000, max_tokens=50), table(engine("coder", able=small)))
    assert (refusal.status, refusal.code) == (400, "context_length_exceeded")
    assert "about 25000 tokens and 50 more to be generated: coder holds 1000" in refusal.message
    refusal = refused(ask(CODE, max_tokens=32_000), table(*TRIO))
    assert refusal.param == "max_tokens"
    assert "clamp_max_tokens" in refusal.message


def test_a_prompt_that_no_model_of_the_route_holds_goes_to_one_that_does() -> None:
    long = engine("long", able=replace(ABLE, max_model_len=1 << 20))
    choice = chosen(ask(CODE, size=200_000), table(*TRIO, long))
    assert (choice.route, choice.model, choice.cause) == ("code", "long", "context")
    assert choice.fallback == "coder: holds 8192 tokens, the request has about 50000"
    assert not choice.ask_tokenizer


def test_an_unknown_server_elsewhere_is_no_stand_in() -> None:
    elsewhere = Upstream(name="x", names=("bge",), url="http://x", managed=False, routable=True)
    parts = [{"type": "image_url", "image_url": {"url": "x"}}]
    body = {"messages": [{"role": "user", "content": parts}]}
    need = need_of("/v1/chat/completions", body, 100)
    assert refused(need, table(*TRIO, elsewhere)).code == "no_capable_model"
    sees = load_text(
        '[[upstream]]\nname = "x"\nurl = "http://x"\nmodels = ["eye"]\n'
        'capabilities = ["chat", "images"]\n',
        path="/p.toml",
    ).upstreams[0]
    seeing = replace(elsewhere, names=("eye",), capabilities=stated_capabilities(sees))
    assert chosen(need, table(*TRIO, seeing)).model == "eye"


def test_an_answer_by_a_schema_goes_where_it_can_be_had() -> None:
    loose = engine("coder", able=replace(ABLE, structured=False))
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}
    choice = chosen(ask(CODE, response_format=wanted), table(loose, *TRIO[1:]))
    assert (choice.model, choice.fallback) == ("chat", "coder: does not follow a JSON schema")
    assert chosen(ask(CODE, response_format={"type": "text"}), table(loose)).model == "coder"


def test_only_near_the_edge_a_tokenizer_is_asked() -> None:
    among = table(*TRIO)
    near = ask(CODE, size=8192 * 4)
    asks = {size: chosen(ask(CODE, size=size), among).ask_tokenizer for size in (400, 8192 * 4)}
    assert asks == {400: False, 8192 * 4: True}
    assert chosen(near, among).model == "coder"
    fits = chosen(replace(near, counted_tokens=8000), among)
    assert (fits.model, fits.ask_tokenizer, fits.fallback) == ("coder", False, None)
    refusal = refused(replace(near, counted_tokens=8193), among)
    assert "no model holds this request of 8193 tokens" in refusal.message
    # Where no tokenizer answers, the engine is asked itself.
    silent = chosen(replace(near, counted_tokens=-1), among)
    assert (silent.model, silent.ask_tokenizer) == ("coder", False)
    # Who names a model asks that one.
    assert not chosen(ask(CODE, size=8192 * 4, model="coder"), among).ask_tokenizer


def test_a_count_is_the_last_word_on_the_model_that_counted_only() -> None:
    among = table(*TRIO)
    near = ask(CODE, size=8192 * 4)
    counted = replace(near, counted_tokens=9000, counted_by="coder")
    # The vocabulary of chat may do with less; that engine says so itself.
    choice = chosen(counted, among)
    assert (choice.model, choice.cause, choice.ask_tokenizer) == ("chat", "context", False)
    assert choice.fallback == "coder: holds 8192 tokens, the request has 9000"
    assert refused(replace(counted, counted_tokens=17_000), among).status == 400


def test_max_tokens_is_lowered_only_where_the_profile_says_so() -> None:
    among = table(*TRIO, clamp_max_tokens=True)
    greedy: dict[str, Any] = {"max_tokens": 32_000}
    choice = chosen(ask(CODE, **greedy), among)
    assert (choice.model, choice.edits) == ("coder", (("max_tokens", 8192 - 50),))
    assert not choice.ask_tokenizer
    assert chosen(ask(CODE, model="coder", **greedy), among).edits == choice.edits
    assert chosen(ask(CODE, max_tokens=100), among).edits == ()
    both = chosen(ask(CODE, max_completion_tokens=9000, max_tokens=10), among)
    assert both.edits == (("max_completion_tokens", 8192 - 50),)


def test_max_tokens_beside_a_long_prompt_is_what_the_tokenizer_leaves() -> None:
    among = table(*TRIO, clamp_max_tokens=True)
    need = ask(CODE, size=18_000, max_tokens=32_000)
    choice = chosen(need, among)
    assert (choice.ask_tokenizer, choice.edits) == (True, (("max_tokens", 8192 - 6000),))
    counted = chosen(replace(need, counted_tokens=5000), among)
    assert (counted.ask_tokenizer, counted.edits) == (False, (("max_tokens", 8192 - 5000),))
    silent = chosen(replace(need, counted_tokens=-1), among)
    assert (silent.ask_tokenizer, silent.edits) == (False, choice.edits)


def test_a_full_model_spills_over_only_where_the_profile_says_so() -> None:
    load = {"coder": 4}
    assert chosen(ask(CODE), table(*TRIO), load=load).model == "coder"
    spilling = table(*TRIO, spill_over=1.0)
    choice = chosen(ask(CODE), spilling, load=load)
    assert (choice.model, choice.cause) == ("chat", "full")
    assert choice.fallback == "coder: full, 4 in flight and max_num_seqs 4"
    assert chosen(ask(CODE), spilling, load={"coder": 3}).model == "coder"
    # When all are full it waits for its own, and who names a model gets it.
    assert chosen(ask(CODE), spilling, load={"coder": 9, "chat": 9}).model == "coder"
    assert chosen(ask(CODE, model="coder"), spilling, load=load).model == "coder"
    # Each of several routers knows its share.
    shared = replace(spilling, workers=2)
    assert chosen(ask(CODE), shared, load={"coder": 2}).model == "chat"


def test_a_default_alone_is_where_no_rule_leads() -> None:
    among = table(*TRIO, code=None, general=None)
    among = replace(among, routing=replace(among.routing, rules=RULES[:1]))
    assert chosen(ask("select"), among).route == "sql"
    choice = chosen(ask(CODE), among)
    assert (choice.step, choice.route, choice.model) == ("default", "default", "chat")
    assert choice.reason == "default: no rule holds"


def test_rules_do_not_touch_what_is_no_prompt() -> None:
    everything = RouteSpec(index=0, name="all", model="coder", tools=False)
    among = table(*TRIO, engine("bge", able=Capabilities(embeddings=True)), rules=(everything,))
    need = need_of("/v1/embeddings", {"input": "x"}, 10, {"x-gpuserve-route": "all"})
    assert chosen(need, among).model == "bge"
    two = replace(
        among, upstreams=(*among.upstreams, engine("e5", able=Capabilities(embeddings=True)))
    )
    assert refused(need, two).code == "model_required"
    pinned = replace(need, headers={"x-gpuserve-model": "e5"})
    assert (chosen(pinned, two).step, chosen(pinned, two).model) == ("header", "e5")


def test_what_a_refusal_was_meant_for_is_known() -> None:
    down = replace(TRIO[0], routable=False, state="Starting")
    refusal = refused(ask("x", model="deepseek"), table(down, *TRIO[1:]))
    assert (refusal.model, refusal.route) == ("coder", "explicit")
    unknown = refused(ask("x", model="nobody"), table(*TRIO))
    assert (unknown.model, unknown.route) == (None, None)
