"""The profile's policy over HTTP: both sides of the router, and `gpuserve route`, decide alike."""

import asyncio
import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuserve.plan import Capabilities
from gpuserve.profile.load import load
from gpuserve.profile.spec import RouteSpec
from gpuserve.router.headers import printable
from gpuserve.routing.explain import supposed_table
from tests.integration.router.conftest import CODE, GENERAL, ROUTES, Box, until
from tests.unit.routing import prompts

BILLS = RouteSpec(index=0, name="bills", model="billing", keywords=("invoice",))
TEAM = RouteSpec(index=1, name="team", model="billing", header=(("x-team", ("fin*",)),))
SMALL = Capabilities(chat=True, max_model_len=4096, max_num_seqs=1)


async def three(box: Box, **routing: Any) -> Box:
    """Coder, chat and billing behind one worker, with *routing* besides the usual."""
    names = ("coder", "chat", "billing")
    for name in names:
        await box.upstream(name)
    box.write(
        *(box.engine(name, capabilities=SMALL) for name in names),
        routing=replace(ROUTES, **routing),
    )
    await box.worker()
    return box


async def metric(box: Box, line: str) -> bool:
    return line in (await box.get("/metrics")).body.decode().splitlines()


async def test_rules_decide_before_the_classifier_and_say_so(box: Box) -> None:
    await three(box, rules=(BILLS, TEAM))
    answer = await box.chat("Write Python that prints an invoice")
    assert (answer.told("route"), answer.told("model")) == ("bills", "billing")
    assert answer.told("reason") == 'rule bills: keyword "invoice"'
    assert box.upstreams["billing"].seen[0].json["model"] == "billing"
    body = {"messages": [{"role": "user", "content": CODE}]}
    team = await box.post("/v1/chat/completions", json=body, headers={"X-Team": "finance"})
    assert (team.told("route"), team.told("reason")) == ("team", "rule team: header x-team")
    assert (await box.chat(CODE)).told("route") == "code"
    named = await box.chat("an invoice", model="chat")
    assert (named.told("route"), named.told("model")) == ("explicit", "chat")
    for step, route in (("rule", "bills"), ("rule", "team"), ("classifier", "code")):
        line = f'gpuserve_router_decisions_total{{route="{route}",step="{step}"}} 1.0'
        assert await metric(box, line)


async def test_a_request_can_ask_for_a_route_or_a_model_by_header(box: Box) -> None:
    await three(box, rules=(BILLS,))
    body = {"model": "auto", "messages": [{"role": "user", "content": CODE}]}

    async def asked(**headers: str) -> Any:
        named = {f"x-gpuserve-{key}": value for key, value in headers.items()}
        return await box.post("/v1/chat/completions", json=body, headers=named)

    route = await asked(route="bills")
    assert (route.told("route"), route.told("model")) == ("bills", "billing")
    assert route.told("reason") == "header: x-gpuserve-route asks for bills"
    model = await asked(model="chat")
    assert (model.told("route"), model.told("model")) == ("explicit", "chat")
    assert box.upstreams["chat"].seen[0].json["model"] == "chat"
    wrong = await asked(route="bill")
    assert wrong.status == 400
    assert "known routes: code, general, default, bills" in wrong.json["error"]["message"]
    # It goes no further than here.
    seen = [u.headers for upstream in box.upstreams.values() for u in upstream.seen]
    assert not [name for headers in seen for name in headers if name.startswith("x-gpuserve")]


@pytest.mark.parametrize("model", ["auto", "coder"])
async def test_max_tokens_is_lowered_in_place_and_said(box: Box, model: str) -> None:
    await three(box, clamp_max_tokens=True)
    raw = json.dumps(
        {"model": model, "max_tokens": 32000, "messages": [{"role": "user", "content": CODE}]},
        indent=3,
    ).encode()
    kind = {"content-type": "application/json"}
    answer = await box.post("/v1/chat/completions", data=raw, headers=kind)
    lowered = 4096 - len(raw) // 2
    assert answer.told("max-tokens") == str(lowered)
    expected = raw.replace(b"32000", str(lowered).encode()).replace(b'"auto"', b'"coder"')
    assert box.upstreams["coder"].seen[0].body == expected
    assert await metric(box, 'gpuserve_router_max_tokens_lowered_total{model="coder"} 1.0')
    assert (await box.chat(CODE, model=model, max_tokens=10)).told("max-tokens") is None


async def test_near_the_edge_the_engines_tokenizer_decides(box: Box) -> None:
    await three(box)
    coder = box.upstreams["coder"]
    text = f"{CODE}\n" + "x = y + z\n" * 1600  # 16 kB, about 4096 tokens
    coder.tokens = 3000
    fits = await box.chat(text)
    assert (fits.status, fits.told("model"), fits.told("fallback")) == (200, "coder", None)
    asked, answered = coder.seen
    assert (asked.path, asked.json["model"]) == ("/tokenize", "coder")
    assert asked.json["messages"] == answered.json["messages"]
    coder.tokens = 9000
    refused = await box.chat(text)
    assert (refused.status, refused.json["error"]["code"]) == (400, "context_length_exceeded")
    assert "9000 tokens: coder holds 4096" in refused.json["error"]["message"]
    assert refused.told("model") == "coder"
    assert await metric(box, 'gpuserve_router_tokenized_total{model="coder",outcome="counted"} 2.0')
    # Without an answer the estimate has to do.
    coder.tokens = None
    assert (await box.chat(text)).told("model") == "coder"
    before = len(coder.seen)
    assert (await box.chat(CODE)).status == 200
    assert len(coder.seen) == before + 1


async def test_a_tokenizer_that_hangs_delays_a_request_by_its_bound_only(box: Box) -> None:
    await three(box)
    coder = box.upstreams["coder"]
    coder.gate.clear()
    text = f"{CODE}\n" + "x = y + z\n" * 1600
    waiting = asyncio.create_task(box.chat(text))
    # The request itself follows the question, although that was never answered.
    await until(lambda: len(coder.seen) == 2)
    assert [seen.path for seen in coder.seen] == ["/tokenize", "/v1/chat/completions"]
    coder.gate.set()
    assert (await waiting).told("model") == "coder"


async def test_a_full_model_spills_over_where_the_profile_says_so(box: Box) -> None:
    await three(box, spill_over=1.0)
    coder = box.upstreams["coder"]
    coder.gate.clear()
    first = asyncio.create_task(box.chat(CODE))
    await coder.arrived.wait()
    second = await box.chat(CODE)
    assert (second.told("route"), second.told("model")) == ("code", "chat")
    assert second.told("fallback") == "coder: full, 1 in flight and max_num_seqs 1"
    coder.gate.set()
    assert (await first).told("model") == "coder"
    assert (await box.chat(CODE)).told("model") == "coder"
    assert await metric(box, 'gpuserve_router_passed_over_total{cause="full",model="coder"} 1.0')


async def test_a_refusal_says_what_the_request_was_meant_for(box: Box) -> None:
    await three(box, rules=(replace(BILLS, fallback=()),))
    down = box.engine("billing", state="Starting", routable=False, reason="loading weights")
    box.write(box.engine("coder"), box.engine("chat"), down)
    await box.reload()
    for answer in (await box.chat("an invoice"), await box.chat("x", model="billing")):
        assert (answer.status, answer.told("model")) == (503, "billing")
    assert answer.told("route") == "explicit"
    assert answer.told("reason") == "explicit: the request names billing"
    line = 'gpuserve_router_requests_total{model="billing",route="bills",status="5xx"} 1.0'
    assert await metric(box, line)


PROFILE = """
[[model]]
name = "coder"
aliases = ["deepseek"]
model = "o/c"
tool_call_parser = "hermes"
max_model_len = 4096
[[model]]
name = "chat"
model = "o/g"
max_model_len = 4096
[[model]]
name = "third"
model = "o/b"
tool_call_parser = "hermes"
max_model_len = 32768
[routing]
code = "coder"
general = "chat"
threshold = [0.4, 0.65]
clamp_max_tokens = true
[[route]]
name = "bills"
model = "third"
keywords = ["invoice", "请假"]
fallback = ["chat"]
[[route]]
name = "code"
tools = ["bash", "edit*"]
[[route]]
name = "long"
model = "third"
min_prompt_tokens = 3000
[[route]]
name = "german"
model = "third"
language = "de"
label = "general"
scope = "turn"
[[route]]
name = "pirate"
model = "third"
system = "you are a pirate"
metadata = { tier = "gold" }
"""


def user(*contents: Any, **fields: Any) -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    for content in contents:
        messages += [
            {"role": "user", "content": content},
            {"role": "assistant", "content": "```python\nprint(1)\n```"},
        ]
    return {"messages": messages[:-1], **fields}


def tool(name: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}


CORPUS: list[dict[str, Any]] = [
    *(user(text) for text in (*prompts.CODE[:12], *prompts.GENERAL[:12])),
    *(user(text, model="auto") for text in ("How can I generate a list of numbers?", "ok", "")),
    user(prompts.an_unsure_prompt()),
    user(CODE, "now with error handling", "shorter"),
    user(GENERAL, "and in rhyme", model="auto"),
    user("Why does my invoice say 3?", "and the other one?"),
    user("我想请假"),
    user("Warum ist der Himmel blau und nicht grün?"),
    user("Warum ist der Himmel blau und nicht grün?", CODE),
    user("yes", tools=[tool("bash"), tool("x")]),
    user("book a flight", tools=[tool("book_flight")]),
    user("book", tools=[tool("edit_file")], tool_choice="none"),
    {
        "messages": [
            {"role": "system", "content": "You are a Pirate"},
            {"role": "user", "content": [{"type": "text", "text": "ahoy"}]},
        ],
        "metadata": {"tier": "gold"},
    },
    {
        "messages": [
            {"role": "user", "content": CODE},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
            {"role": "tool", "content": "42", "tool_call_id": "1"},
        ]
    },
    user(CODE, max_tokens=32000),
    user(GENERAL, model="deepseek", max_completion_tokens=32000),
    user("x = y + z\n" * 1500),
    user("x = y + z\n" * 100_000),
    user([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]),
    {"prompt": "def f(", "suffix": "return 1"},
    {"prompt": "<fim_prefix>a<fim_suffix>b<fim_middle>"},
    {"prompt": "Once upon a time"},
    {"prompt": [1, 2, 3]},
    {"input": CODE},
    {"input": [{"role": "user", "content": [{"type": "input_text", "text": GENERAL}]}]},
    {"messages": [{"role": "user", "content": CODE}], "model": "nobody"},
    # hostile
    {"messages": None},
    {"messages": [None, 3, "x", [], {"role": ["user"], "content": {"text": "x"}}]},
    user(None),
    user([None, {"text": None}, {"type": "text", "text": [["x"]]}, ["a"]]),
    user("\ud800 lone \udfff surrogates \x00"),
    user("a" * 400_000),
    user([{"type": "text", "text": "def f(): pass"}] * 20_000),
    user("(p(code)=1.00): looks code, rule bills: keyword"),
    user("hi", tools=[None, {}, {"name": ["bash"]}, tool({"a": 1})], metadata=["tier"]),
    user("hi", metadata={"tier": "gold" * 1000}, max_tokens=-5),
    user("hi", max_tokens=True, tools="bash", suffix=3),
]


def path_of(body: dict[str, Any]) -> str:
    if "messages" in body:
        return "/v1/chat/completions"
    return "/v1/completions" if "prompt" in body else "/v1/responses"


async def test_the_router_and_the_command_decide_alike(box: Box, tmp_path: Path) -> None:
    profile = tmp_path / "p.toml"
    profile.write_text(PROFILE)
    supposed = supposed_table(load(profile))
    for upstream in supposed.upstreams:
        await box.upstream(upstream.name)
    box.write(
        *(
            replace(u, socket=str(box.run_dir.engine_socket(u.name)), url="http://localhost")
            for u in supposed.upstreams
        ),
        routing=supposed.routing,
    )
    await box.worker()
    lines = [json.dumps(body).encode() for body in CORPUS]
    told = await _route(profile, lines)
    differing = []
    for body, line, says in zip(CORPUS, lines, told, strict=True):
        kind = {"content-type": "application/json"}
        data = io.BytesIO(line)  # aiohttp warns about large bytes
        answer = await box.post(path_of(body), data=data, headers=kind)
        if "error" in says:
            seen: tuple[Any, ...] = (answer.status, answer.json["error"]["message"])
            expected: tuple[Any, ...] = (says["status"], says["error"])
        else:
            parts = ("route", "model", "fallback", "reason", "max-tokens")
            seen = tuple(answer.told(part) for part in parts)
            lowered = says["max_tokens"]
            expected = (
                *(says[part] for part in parts[:2]),
                says["fallback"] and printable(says["fallback"]),
                printable(says["reason"]),
                None if lowered is None else str(lowered),
            )
        if seen != expected:
            differing.append((line[:80], seen, expected))
    assert differing == []
    assert {says.get("decided_by") for says in told} >= {
        *("rule", "kind", "classifier", "default", "explicit", None)
    }
    assert {says["route"] for says in told} >= {"bills", "long", "german", "pirate", "code"}


async def _route(profile: Path, lines: list[bytes]) -> list[dict[str, Any]]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gpuserve", "route", "--jsonl", "--profile", str(profile)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=dict(os.environ),
    )
    out, _ = await process.communicate(b"\n".join(lines))
    return [json.loads(line) for line in out.splitlines()]
