import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuserve.routing.body import (
    BadBody,
    Dense,
    as_sent,
    model_of,
    parse_object,
    with_model,
    with_numbers,
)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "empty"),
        (b"  ", "empty"),
        (b"{", "line 1, column 2"),
        (b"null", "null"),
        (b'"x"', "string"),
        (b"3", "number"),
        (b"true", "boolean"),
        (b"[]", "array"),
        (b'{"a":1,"a":2}', '"a" stands twice'),
        (b'{"x":{"a":1,"a":2}}', "twice"),
        (b'{"a":"\xff"}', "byte 6"),
        (b'{"a":' * 50_000, "too deeply"),
        (b'{"a":' + b"9" * 5000 + b"}", "not valid JSON"),
    ],
)
def test_what_is_no_plain_object_is_refused_with_the_reason(raw: bytes, says: str) -> None:
    with pytest.raises(BadBody, match=says):
        parse_object(raw)


@pytest.mark.parametrize("model", [5, True, ["a"], {"a": 1}])
def test_a_model_that_is_no_string_is_refused(model: Any) -> None:
    with pytest.raises(BadBody, match="expected a string"):
        model_of({"model": model})


@pytest.mark.parametrize("body", [{}, {"model": None}, {"model": ""}])
def test_no_model_null_and_nothing_are_the_same(body: dict[str, Any]) -> None:
    assert model_of(body) is None


def test_the_name_is_replaced_in_place_and_nothing_else_moves() -> None:
    raw = b'{ "a" : 1.50,\n "model"  :  "auto", "b":"\\u00e9 x"}'
    assert with_model(b'{ "m":1.50, "model" : "auto" }', parse_object(raw), "c") == (
        b'{ "m":1.50, "model" : "c" }'
    )
    changed = with_model(raw, parse_object(raw), "coder")
    assert json.loads(changed) == json.loads(raw) | {"model": "coder"}


def test_a_missing_name_is_put_in_front() -> None:
    assert with_model(b' {"a":1}', {"a": 1}, "c") == b' {"model":"c","a":1}'
    assert with_model(b"{}", {}, "c") == b'{"model":"c"}'


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model": null, "a": 1}',
        b'{"metadata": {"model": "auto"}, "model": "auto"}',
        b'{"metadata": {"model": "auto"}, "\\u006dodel": "auto"}',
        b'{"x\\"model": "auto", "model": "auto"}',
        b'{"messages": [{"content": "\\"model\\": \\"auto\\""}], "model": "auto"}',
        b'{"metadata": {"model": "auto"}}',
    ],
)
def test_only_the_key_of_the_request_itself_is_changed(raw: bytes) -> None:
    body = parse_object(raw)
    assert json.loads(with_model(raw, body, 'c"x')) == body | {"model": 'c"x'}


KEYS = st.sampled_from(["model", "a", 'x"model', "mod\u00e9l", "\\", "messages"])
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just('"model": "auto"'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, VALUES, max_size=4), st.booleans(), st.sampled_from([None, 0, 2]))
def test_any_body_names_the_model_afterwards_and_keeps_the_rest(
    body: dict[str, Any], escaped: bool, indent: int | None
) -> None:
    raw = json.dumps(body, ensure_ascii=escaped, indent=indent).encode("utf-8", "replace")
    body = json.loads(raw)
    assert json.loads(with_model(raw, body, "coder")) == body | {"model": "coder"}


def test_a_body_of_brackets_is_refused_before_it_takes_the_memory() -> None:
    with pytest.raises(BadBody, match="more than 1,048,576 opening brackets"):
        parse_object(b'{"a":[' + b"[]," * (1 << 20) + b"[]]}")
    assert len(parse_object(b'{"a":[' + b"[]," * 1000 + b"[]]}")["a"]) == 1001


def test_a_million_nested_names_are_not_collected() -> None:
    raw = b'{"a":[' + b'{"model":"x"},' * 500_000 + b'{}],"model":"auto"}'
    body = parse_object(raw)
    tracemalloc.start()
    try:
        changed = with_model(raw, {"model": "auto", "a": []}, "c")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert json.loads(changed)["model"] == "c"
    assert len(body["a"]) == 500_001
    assert most < 1 << 20


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"max_tokens":32000,"x":1}', b'{"max_tokens":7,"x":1}'),
        (b'{ "max_tokens" :\n 32000 }', b'{ "max_tokens" :\n 7 }'),
        # What only looks like the key stays.
        (
            b'{"x": "\\"max_tokens\\": 5", "max_tokens": 32000}',
            b'{"x": "\\"max_tokens\\": 5", "max_tokens": 7}',
        ),
    ],
)
def test_a_number_is_put_in_place(raw: bytes, expected: bytes) -> None:
    body = parse_object(raw)
    sent, changed = with_numbers(raw, body, [("max_tokens", 7)])
    assert sent == expected
    assert changed == {**body, "max_tokens": 7}


@pytest.mark.parametrize(
    "raw",
    [
        b'{"tool": {"max_tokens": 3}, "max_tokens": 32000}',
        b'{"max_tokens": 32000, "x": ["max_tokens", {"max_tokens": 4}]}',
        b'{"max\\u005ftokens": 32000, "tool": {"max_tokens": 3}}',
    ],
)
def test_where_the_key_is_in_doubt_the_document_is_written_anew(raw: bytes) -> None:
    body = parse_object(raw)
    sent, _ = with_numbers(raw, body, [("max_tokens", 7)])
    assert json.loads(sent) == {**body, "max_tokens": 7}


def test_a_body_is_sent_with_both_changes_or_as_it_came() -> None:
    raw = b'{"model": "auto", "max_tokens": 32000, "max_completion_tokens": 9}'
    body = parse_object(raw)
    edits = [("max_tokens", 7), ("max_completion_tokens", 7)]
    sent = as_sent(raw, body, model="m", edits=edits)
    assert sent == b'{"model": "m", "max_tokens": 7, "max_completion_tokens": 7}'
    assert as_sent(raw, body, model=None) is raw
    assert as_sent(b"form", {}, model="m") == b"form"


def test_reading_gives_up_where_there_are_more_objects_than_allowed() -> None:
    raw = b'{"a":[{},{"b":{}}]}'
    assert parse_object(raw, 4) == parse_object(raw) == {"a": [{}, {"b": {}}]}
    with pytest.raises(Dense):
        parse_object(raw, 3)
