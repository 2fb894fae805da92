"""Whatever a body holds, and whoever is down: one answer, and a true one."""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gpuserve.plan import Capabilities
from gpuserve.profile.spec import RouteSpec, RoutingSpec
from gpuserve.routing.body import as_sent, parse_object
from gpuserve.routing.choose import Choice, Refusal, choose, fallbacks
from gpuserve.routing.request import LIMITS, need_of
from gpuserve.routing.table import RoutingTable, Upstream
from tests.unit.routing.test_policy import engine

NAMES = ("coder", "chat", "third")
RULES = (
    RouteSpec(index=0, name="a", model="third", keywords=("invoice", "x"), images=False),
    RouteSpec(index=1, name="b", model="chat", language=("de",), tools=True),
    RouteSpec(index=2, name="c", model="third", system=("s",), metadata=(("m", ("*",)),)),
    RouteSpec(index=3, name="d", model="coder", min_prompt_tokens=3000, tool_names=("t*",)),
)
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/tokenize")

words = st.sampled_from(["invoice", "def f(x):", "ein Brief und das", "\ud800", "", "<fim_prefix>"])
text = words | st.text(max_size=20)
scraps: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "text", "type", "name", "function", "m", "x"]),
            inner | st.sampled_from(["user", "system", "image_url", "text"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)
turns = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool"]), "content": text | scraps}
)
bodies = st.dictionaries(
    st.sampled_from(
        ["messages", "prompt", "input", "suffix", "tools", "system", "metadata", *LIMITS]
    ),
    st.lists(turns, max_size=4) | text | scraps | st.integers(1, 60_000),
    max_size=6,
)


@st.composite
def tables(draw: st.DrawFn) -> RoutingTable:
    able = st.builds(
        Capabilities,
        chat=st.sampled_from([True, None]),
        tools=st.sampled_from([True, False, None]),
        images=st.sampled_from([True, False, None]),
        max_model_len=st.sampled_from([None, 500, 8192]),
        max_num_seqs=st.sampled_from([None, 2]),
    )
    upstreams: list[Upstream] = [
        replace(engine(name, able=draw(able)), routable=draw(st.booleans())) for name in NAMES
    ]
    routing = RoutingSpec(
        code="coder",
        general="chat",
        default="chat",
        rules=RULES,
        fallback=draw(st.sampled_from([None, (), ("third",)])),
        spill_over=draw(st.sampled_from([None, 1.0])),
        clamp_max_tokens=draw(st.booleans()),
    )
    return RoutingTable(instance="i", generation=1, routing=routing, upstreams=tuple(upstreams))


@settings(max_examples=300, deadline=None)
@given(
    body=bodies,
    table=tables(),
    path=st.sampled_from(PATHS),
    size=st.sampled_from([10, 2000, 20_000, 10**7]),
    named=st.sampled_from([None, "auto", "coder"]),
    dark=st.frozensets(st.sampled_from(NAMES), max_size=2),
    load=st.dictionaries(st.sampled_from(NAMES), st.integers(0, 4)),
)
def test_every_request_has_one_answer_that_is_true(
    body: dict[str, Any],
    table: RoutingTable,
    path: str,
    size: int,
    named: str | None,
    dark: frozenset[str],
    load: dict[str, int],
) -> None:
    if named is not None:
        body = {**body, "model": named}
    need = need_of(path, body, size)
    answer = choose(need, table, dark, load)
    assert answer == choose(need, table, dark, load)
    if isinstance(answer, Refusal):
        assert 400 <= answer.status < 600
        assert answer.message
        return
    assert isinstance(answer, Choice)
    assert answer.upstream.routable
    assert answer.upstream.name not in dark
    assert answer.reason.startswith(answer.step)
    if named == "coder":
        assert (answer.step, answer.model, answer.fallback) == ("explicit", "coder", None)
    assert (answer.fallback is None) == (answer.cause is None) == (answer.wanted is None)
    assert answer.model not in list(fallbacks(need, answer, table))
    for key, number in answer.edits:
        assert 0 < number < body[key]
        assert number <= (answer.upstream.capabilities.max_model_len or number)
    # A tokenizer is asked once.
    if answer.ask_tokenizer:
        told = choose(replace(need, counted_tokens=-1), table, dark, load)
        assert isinstance(told, Refusal) or not told.ask_tokenizer


@settings(max_examples=200, deadline=None)
@given(
    body=bodies,
    table=tables(),
    size=st.sampled_from([10, 2000, 20_000]),
    dark=st.frozensets(st.sampled_from(NAMES), max_size=1),
)
def test_the_short_way_to_a_choice_ends_where_the_long_one_does(
    body: dict[str, Any], table: RoutingTable, size: int, dark: frozenset[str]
) -> None:
    need = need_of("/v1/chat/completions", body, size)
    short = replace(table, routing=replace(table.routing, spill_over=None))
    # Nobody is ever this full, but everybody must be looked at.
    long = replace(table, routing=replace(table.routing, spill_over=1e9))
    assert choose(need, short, dark) == choose(need, long, dark)


@settings(max_examples=200, deadline=None)
@given(body=bodies, model=st.none() | st.just("m"))
def test_what_is_sent_says_what_was_decided_and_nothing_else_changes(
    body: dict[str, Any], model: str | None
) -> None:
    import json

    raw = json.dumps(body).encode()
    try:
        body = parse_object(raw)
    except ValueError:  # the same key twice, further in
        return
    edits = [(key, 7) for key in LIMITS if type(body.get(key)) is int and body[key] > 7]
    sent = as_sent(raw, body, model=model, edits=edits)
    expected = body | dict(edits) | ({"model": model} if model and body else {})
    assert json.dumps(json.loads(sent), sort_keys=True) == json.dumps(expected, sort_keys=True)
