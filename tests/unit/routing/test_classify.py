import time
from collections.abc import Callable
from typing import Any

import pytest

from gpuserve.routing.classify import UNSURE, Verdict, classify
from gpuserve.routing.marks import marks_of
from gpuserve.routing.tokens import tokens_of
from gpuserve.routing.turns import turns_of
from gpuserve.routing.wrappers import unwrapped
from tests.unit.routing.prompts import CODE, GENERAL


def verdict(*said: Any, **fields: Any) -> Verdict:
    """Return the verdict on a conversation: strings are turns of user and assistant in turn."""
    messages = [
        {"role": ("user", "assistant")[n % 2], "content": turn} if isinstance(turn, str) else turn
        for n, turn in enumerate(said)
    ]
    return classify(turns_of({"messages": messages, **fields}))


@pytest.mark.parametrize("prompt", CODE)
def test_a_prompt_about_code_goes_to_the_code_model(prompt: str) -> None:
    assert verdict(prompt).route == "code", verdict(prompt)


@pytest.mark.parametrize("prompt", GENERAL)
def test_any_other_prompt_goes_to_the_general_model_traps_included(prompt: str) -> None:
    assert verdict(prompt).route == "general", verdict(prompt)


@pytest.mark.parametrize("prompt", [*CODE, *GENERAL])
def test_the_score_is_a_probability_on_the_side_of_the_route(prompt: str) -> None:
    said = verdict(prompt)
    assert 0 <= said.score <= 1
    assert (said.score > UNSURE[1]) == (said.route == "code")
    assert (said.score < UNSURE[0]) == (said.route == "general")


def test_the_reasons_name_the_heaviest_signs_first() -> None:
    reasons = verdict("Write a Python function that parses yaml").reasons
    assert any(reason.startswith("function that +") for reason in reasons)
    assert any(reason.startswith("python +") for reason in reasons)
    weights = [abs(float(reason.rsplit(" ", 1)[1])) for reason in reasons]
    assert weights == sorted(weights, reverse=True)


def test_between_the_bounds_a_verdict_is_unsure() -> None:
    turns = turns_of({"prompt": CODE[0]})
    score = classify(turns).score
    bounds = ((score, 1), (0, score), (0, score - 0.001), (score + 0.001, 1))
    routes = [classify(turns, unsure=pair).route for pair in bounds]
    assert routes == ["unsure", "unsure", "code", "general"]


@pytest.mark.parametrize("turn", ["continue", "yes", "shorter please", "now with error handling"])
def test_a_short_turn_inherits_the_topic(turn: str) -> None:
    assert verdict("Write a Python class for a binary tree", "Sure: ...", turn).route == "code"


def test_a_follow_up_without_a_keyword_inherits_the_topic() -> None:
    turn = "what happens when the one that comes in first is repeated several times?"
    assert verdict("Implement a hash map in C++", "Here it is", turn).route == "code"
    assert verdict(turn).route == "general"


def test_a_new_question_of_the_other_kind_switches() -> None:
    code = "Write a bash script that renames files"
    turn = "Now write a poem for my wife about love, birds and a garden in winter, for her birthday"
    assert verdict(code, "done", turn).route == "general"
    assert verdict("Tell me a story", "Once…", CODE[0]).route == "code"


def test_a_tool_result_keeps_the_route_of_the_conversation() -> None:
    result = {"role": "tool", "content": "A story about a dragon, a poem and a birthday party"}
    call: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [{}]}
    user = {"role": "user", "content": "Fix the failing pytest in tests/test_api.py"}
    assert verdict(user, call, result).route == "code"
    assert verdict(user, call, result).score == verdict(user).score


def test_a_tool_result_in_the_user_role_keeps_the_route_too() -> None:
    part = {"type": "tool_result", "tool_use_id": "1", "content": "sunny, 21 degrees"}
    messages = [
        {"role": "user", "content": "refactor the parser in src/lib.rs"},
        {"role": "assistant", "content": [{"type": "tool_use", "name": "read", "input": {}}]},
        {"role": "user", "content": [part]},
    ]
    assert classify(turns_of({"messages": messages})).route == "code"


def test_a_coding_agents_yes_is_code_and_a_travel_agents_is_not() -> None:
    coder = {"role": "system", "content": "You are a coding agent. Edit files in the git repo."}
    travel = {
        "role": "system",
        "content": 'You book travel. Functions: [{"name": "book_flight", "parameters": {"type": '
        '"object", "properties": {"date": {"type": "string"}}}}]',
    }
    yes = {"role": "user", "content": "yes"}
    assert verdict(coder, yes).route != "general"
    assert verdict(travel, yes).route == "general"
    tools = [{"type": "function", "function": {"name": name}} for name in ("bash", "edit_file")]
    assert verdict(yes, tools=tools).route == "code"
    assert verdict(travel, {"role": "user", "content": "book a flight to Rome"}).route == "general"


def test_a_bland_system_prompt_decides_nothing() -> None:
    system = {"role": "system", "content": "You are a helpful assistant with tools."}
    for prompt in (CODE[0], GENERAL[0]):
        assert verdict(system, {"role": "user", "content": prompt}).route == verdict(prompt).route


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        [],
        [None, 5, {"type": "text"}, {"text": 7}, [["deep"]]],
        {"text": "not a list"},
        5,
        "\ud800\udfff broken",
        "\x00\x01",
    ],
)
def test_any_content_gets_a_verdict(content: Any) -> None:
    said = verdict({"role": "user", "content": content})
    assert said.route == "general"
    assert said.reasons


@pytest.mark.parametrize("messages", [None, 5, "hello", {}, [], [None, 3, "x", []], [{"role": []}]])
def test_any_messages_get_a_verdict(messages: Any) -> None:
    assert classify(turns_of({"messages": messages})).route != "code"


def test_the_parts_of_a_turn_are_joined_and_images_do_not_vote() -> None:
    parts = [
        {"type": "text", "text": "what is wrong with"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,ZGVmIG1haW4oKTo="}},
        {"type": "text", "text": "this python function?"},
    ]
    assert verdict({"role": "user", "content": parts}).route == "code"
    assert verdict({"role": "user", "content": parts[1:2]}).route == "general"


def test_responses_and_messages_bodies_are_read_like_chats() -> None:
    assert classify(turns_of({"input": CODE[0]})).route == "code"
    turn = {"role": "user", "content": [{"type": "input_text", "text": CODE[0]}]}
    assert classify(turns_of({"input": [turn]})).route == "code"
    assert classify(turns_of({"prompt": CODE[0]})).route == "code"
    assert classify(turns_of({"prompt": [CODE[0], "x"]})).route == "code"
    assert classify(turns_of({"prompt": [1, 2, 3]})).route == "general"


def test_the_request_is_found_at_the_tail_of_a_long_paste() -> None:
    paste = "The weather was fine that day. " * 200
    assert verdict(f"{paste}\n\nWrite a Python script that counts these words.").score > 0.5


HOSTILE = {
    "10 MB of prose": "lorem ipsum " * 900_000,
    "newlines": "\n" * 1_000_000,
    "underscores": "a_" * 500_000,
    "dots": "a." * 500_000,
    "brackets": "[1," * 300_000,
    "angles": "<a " * 300_000,
    "selects": "select " * 300_000,
    "quotes": "'" * 1_000_000,
    "braces": '{"a":' * 300_000,
    "tags": "<x>" * 1300,
    "ideographs": "名" * 1_000_000,
    "spaces": 'File "' + " " * 1_000_000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_text_makes_it_slow(kind: str) -> None:
    # CPU time, best of three: a fair bound on a busy machine. Usual is below 2 ms.
    turns = turns_of({"messages": [{"role": "user", "content": HOSTILE[kind]}] * 3})
    spent = []
    for _ in range(3):
        began = time.process_time()
        classify(turns)
        spent.append(time.process_time() - began)
    assert min(spent) < 0.05


def test_a_request_of_a_million_parts_is_not_walked() -> None:
    parts = [{"type": "text", "text": "x"}] * 1_000_000
    began = time.process_time()
    turns = turns_of({"messages": [{"role": "user", "content": parts}] * 5})
    assert time.process_time() - began < 0.05
    assert len(turns.last) < 3000


PIECES = ("1", "a", " ", "[1", "let a", "```\n{", "```\n{}", "<a>", "{'", "/a.", "a;", "a[")


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("first", ["", "[", "let ", "{'"])
def test_the_time_of_each_pattern_grows_with_hostile_text_and_no_faster(
    first: str, piece: str
) -> None:
    small, large = (first + piece * (size // len(piece)) for size in (4_000, 32_000))
    # 8 if it is linear, 64 if it is not.
    for work in (marks_of, tokens_of):
        assert _cpu_ns(work, large) / _cpu_ns(work, small) < 28, work.__name__


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("first", ["", "```\n{", "<a>"])
def test_the_time_of_unwrapping_grows_with_hostile_text_and_no_faster(
    first: str, piece: str
) -> None:
    small, large = (first + piece * (size // len(piece)) for size in (480, 3_840))
    assert _cpu_ns(unwrapped, large) / _cpu_ns(unwrapped, small) < 28


def _cpu_ns(work: Callable[[str], object], text: str) -> int:
    def once() -> int:
        began = time.process_time_ns()
        for _ in range(3):
            work(text)
        return time.process_time_ns() - began

    return min(once() for _ in range(3))
