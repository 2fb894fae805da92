"""Rules: which condition holds when, what they say of it, and that nothing makes them slow."""

from dataclasses import replace
from typing import Any

import pytest

from gpuserve.profile.load import load_text
from gpuserve.profile.spec import RouteSpec
from gpuserve.routing.request import need_of
from gpuserve.routing.rules import rules_of
from gpuserve.routing.scene import Scene

BOTH = (
    '[[model]]\nname = "coder"\nmodel = "o/c"\ntool_call_parser = "hermes"\n'
    '[[model]]\nname = "chat"\nmodel = "o/g"\n'
)


def spec(conditions: str) -> RouteSpec:
    text = f'{BOTH}[[route]]\nname = "r"\nmodel = "coder"\n{conditions}\n'
    (rule,) = load_text(text, path="/p.toml").routing.rules
    return rule


def hits(
    conditions: str, body: dict[str, Any] | str, headers: dict[str, str] | None = None
) -> tuple[str, ...] | None:
    if isinstance(body, str):
        body = {"messages": [{"role": "user", "content": body}]}
    path = "/v1/completions" if "prompt" in body else "/v1/chat/completions"
    size = sum(len(str(value)) for value in body.values())
    need = need_of(path, body, size, headers or {})
    (rule,) = rules_of([spec(conditions)])
    return rule.hits(Scene(need))


def said(*turns: str, **fields: Any) -> dict[str, Any]:
    """A conversation of the user's *turns*, answered in between."""
    messages: list[dict[str, Any]] = []
    for turn in turns:
        messages += [{"role": "user", "content": turn}, {"role": "assistant", "content": "ok"}]
    return {"messages": messages[:-1], **fields}


IMAGE = [{"type": "text", "text": "what is this"}, {"type": "image_url", "image_url": {"url": "x"}}]
BASH = [{"type": "function", "function": {"name": "bash", "parameters": {}}}]


@pytest.mark.parametrize(
    ("conditions", "body", "found"),
    [
        ('keywords = "invoice"', "Where is my INVOICE?", 'keyword "invoice"'),
        ('keywords = "invoice"', "invoices and invoiced", None),
        ('keywords = ["rma", "pay back"]', "I want you to pay back all", 'keyword "pay back"'),
        ('keywords = "c++"', "is c++ hard", 'keyword "c++"'),
        ('keywords = "请假"', "我想请假三天", 'keyword "请假"'),
        ('keywords = "straße"', "STRASSE", 'keyword "straße"'),
        ("regex = 'CVE-\\d{4}-\\d+'", "about CVE-2024-3094", 'regex "CVE-\\d{4}-\\d+"'),
        ("regex = 'CVE-\\d{4}-\\d+'", "about cve-2024-3094", None),
        ("regex = ['^x$', '(?i)cve-']", "Cve-1", 'regex "(?i)cve-"'),
        ('language = "de"', "Warum ist der Himmel blau und nicht grün?", "language de"),
        ('language = ["fr", "es"]', "Why is the sky blue?", None),
        ('system = "Agent X"', {"system": "you are agent x", "messages": []}, "system prompt"),
        ('system = "agent x"', "agent x", None),
        ("tools = true", said("hi", tools=BASH), "tools"),
        ("tools = true", said("hi", tools=BASH, tool_choice="none"), None),
        ("tools = false", "hi", "no tools"),
        ('tools = ["ba*"]', said("hi", tools=BASH), "tool bash"),
        ('tools = ["edit", "read"]', said("hi", tools=BASH), None),
        ("images = true", {"messages": [{"role": "user", "content": IMAGE}]}, "images"),
        ("images = true", "an image", None),
        ("images = false", "an image", "no images"),
        ("min_prompt_tokens = 1000", "x" * 8000, "about 20"),
        ("min_prompt_tokens = 1000", "x" * 800, None),
        ("max_prompt_tokens = 100", "hello", "about"),
        ('kind = "fim"', {"prompt": "a", "suffix": "b"}, "kind fim"),
        ('kind = "completion"', {"prompt": "a"}, "kind completion"),
        ('kind = "chat"', {"prompt": "a"}, None),
        ('label = "code"', "Write a Python function that parses yaml", "label code"),
        ('label = "general"', "Write a Python function that parses yaml", None),
        ('metadata = { team = "x" }', said("hi", metadata={"team": "x"}), "metadata team"),
        ('metadata = { team = "x" }', said("hi", metadata={"team": "xy"}), None),
        ('metadata = { n = "3", b = "true" }', said("h", metadata={"n": 3, "b": True}), "metadata"),
        ('metadata = { team = "*" }', said("hi", metadata=["team"]), None),
    ],
)
def test_a_condition_holds_and_says_what_it_found(
    conditions: str, body: dict[str, Any] | str, found: str | None
) -> None:
    if conditions.startswith("regex"):
        pytest.importorskip("re2")
    told = hits(conditions, body)
    if found is None:
        assert told is None
    else:
        assert told is not None
        assert found in told[0]


@pytest.mark.parametrize(
    ("value", "sent", "holds"),
    [
        ("claude-cli/*", "claude-cli/2.0.1 (external)", True),
        ("claude-cli/*", "Claude-CLI/1", True),
        ("claude-cli", "claude-cli/2.0.1", False),
        ("a?c", "abc", False),
        ("a[b]c", "a[b]c", True),
        ("*", "", True),
    ],
)
def test_a_header_is_compared_whatever_its_case(value: str, sent: str, holds: bool) -> None:
    told = hits(f'header = {{ "User-Agent" = "{value}" }}', "hi", {"user-agent": sent})
    assert (told == ("header user-agent",)) == holds


def test_every_condition_of_a_rule_must_hold() -> None:
    conditions = 'keywords = "tax"\nlanguage = "en"\ntools = false'
    assert hits(conditions, "what is the tax on this") == (
        "no tools",
        "language en",
        'keyword "tax"',
    )
    assert hits(conditions, "wie hoch ist die tax und warum") is None
    assert hits(conditions, said("what is the tax on this", tools=BASH)) is None


def test_a_follow_up_stays_with_the_rule_unless_it_looks_at_the_turn_alone() -> None:
    talk = said("Why does my invoice say 3?", "and the other one?")
    assert hits('keywords = "invoice"', talk) == ('keyword "invoice" in an earlier turn',)
    assert hits('keywords = "invoice"\nscope = "turn"', talk) is None
    german = said("Warum ist der Himmel blau und nicht grün?", "ok")
    assert hits('language = "de"', german) == ("language de",)


def test_what_the_assistant_said_is_not_what_the_user_said() -> None:
    body = {
        "messages": [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "invoice?"},
            {"role": "user", "content": [{"type": "tool_result", "content": "invoice"}]},
        ]
    }
    assert hits('keywords = "invoice"', body) is None


@pytest.mark.parametrize(
    "body",
    [
        {"input": "about an invoice"},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "an invoice"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "my invoice"}] * 90}]},
        {"prompt": ["an invoice", "x"]},
        {"messages": [{"role": "user", "content": "x" * 90_000 + " invoice"}]},
    ],
)
def test_text_is_found_in_every_shape(body: dict[str, Any]) -> None:
    assert hits('keywords = "invoice"', body) is not None


EVERYTHING = (
    'keywords = ["zzz", "aa"]\nlanguage = ["en", "zh"]\nsystem = "zzz"\ntools = ["zzz*"]\n'
    'metadata = { a = "*z*z" }\nheader = { "x-a" = "*z*z*z*z" }\n'
)


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        [],
        [None, 3, [["x"]], {"text": None}, {"text": {"text": "x"}}],
        {"text": "x"},
        "\ud800 lone \udfff",
        "a" * 10_000_000,
        "aab" * 3_000_000,
        [{"type": "text", "text": "aa" * 5000}] * 5000,
        "\u0000" * 1000,
        "ﷺ" * 500_000,
    ],
    ids=lambda content: repr(content)[:20],
)
def test_hostile_content_is_answered(content: Any) -> None:
    body = {
        "messages": [{"role": role, "content": content} for role in ("system", "user")] * 3,
        "tools": [None, {}, {"function": {"name": ["bash"]}}, {"name": "z" * 10_000}],
        "metadata": {"a": "z" * 100_000, "b": 10**400},
    }
    headers = {"x-a": "z" * 100_000}
    whole = spec(EVERYTHING)
    for alone in (
        whole,
        replace(whole, tool_names=(), system=(), metadata=(), header=()),
        replace(whole, keywords=(), language=(), tool_names=()),
        spec("regex = '(a*)*b(a|aa)+$'") if _has_re2() else whole,
        spec('metadata = { b = "1" }'),
    ):
        (rule,) = rules_of([alone])
        told = rule.hits(Scene(need_of("/v1/chat/completions", body, 10**7, headers)))
        assert told is None or all(len(hit) < 200 for hit in told)


def _has_re2() -> bool:
    try:
        import re2  # noqa: F401
    except ImportError:
        return False
    return True
