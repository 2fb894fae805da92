"""The model of a body, found without parsing it: only where parsers would agree."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpuserve.routing.body import BadBody, model_of, parse_object
from gpuserve.routing.peek import model_in
from gpuserve.routing.search import find

LONG = "word " * 3000


@pytest.mark.parametrize(
    "text",
    [
        '{"model":"m"}',
        ' {\n "model" : "m" }\n',
        '{"model":"m","messages":[{"role":"user","content":"hi"}]}',
        '{"messages":[{"role":"user","content":"say \\"model\\": \\"x\\""}],"model":"m"}',
        '{"messages":[],"model":"m","stream":true,"n":1.5,"user":"a\\\\b","stop":null}',
        '{"stream":true,"tools":[{"a":[1]}],"model":"m","messages":["' + LONG + '"]}',
        '{"messages":["' + LONG + '"],"model":"m","tools":[{"a":[1]}]}',
        '{"messages":["' + LONG + '"],"model":"m"}',
        '{"model":"m","messages":["' + LONG + '"]}',
    ],
)
def test_a_plain_name_is_found(text: str) -> None:
    raw = text.encode()
    assert json.loads(raw)["model"] == "m"
    assert model_in(raw) == "m"
    head = b'POST / HTTP/1.1\r\nX: "model": "other"\r\n\r\n'
    assert model_in(head + raw, len(head)) == "m"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        '{"messages":[]}',
        '{"model":5}',
        '{"model":""}',
        '{"model":null}',
        '{"model":"é"}',
        '{"model":"a\\u0062"}',
        '{"model":"a","model":"b"}',
        '{"model":"a","\\u006dodel":"b"}',
        '{"model":"a","mod\\u0065l":"b"}',
        '{"a":{"model":"nested"}}',
        '{"a":[{"model":"nested"}]}',
        '{"tools":[{"model":"nested"}],"x":"' + LONG + '"}',
        '[{"model":"m"}]',
        '"model":"m"',
        '{"a":"model","model":"m"}',
        '{"a":"say \\"model","b":"m"}',
        '{"a":"' + LONG + '","model":"m","b":"' + LONG + '"}',
        '{"model":"m"]',
    ],
)
def test_doubt_is_left_to_the_parser(text: str) -> None:
    assert model_in(text.encode()) is None


def test_other_encodings_are_doubt() -> None:
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"):
        assert model_in('{"model":"m"}'.encode(encoding)) is None
    hidden = '{"a":"'.encode("utf-16-le") + b'"model":"m",' + '","b":1}'.encode("utf-16-le")
    assert model_in(hidden) is None


KEYS = st.sampled_from(["model", "messages", "a", 'say "model', "mod", "model\\", "\u006dodel"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["model", "m", '"model":"x"', "é", "\\", '\\"model', "{", '"}', LONG]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(KEYS, VALUES, max_size=5), st.booleans(), st.integers(0, 40))
@example({"a": {"model": "m"}}, False, 0)
def test_what_is_found_is_what_a_parser_finds(body: dict[str, Any], spaced: bool, cut: int) -> None:
    text = json.dumps(body, ensure_ascii=not spaced, indent=1 if spaced else None)
    raw = text.encode()
    found = model_in(raw)
    assert found is None or found == json.loads(raw)["model"]
    # And in pieces of it, most of which are no JSON: what parsers take, they take for the same.
    piece = raw[: len(raw) - cut]
    found = model_in(piece)
    if found is not None:
        try:
            parsed = parse_object(piece)
        except BadBody:
            return
        assert model_of(parsed) == found


@given(st.binary(max_size=40), st.binary(min_size=1, max_size=3), st.integers(0, 5000))
def test_a_search_in_many_bytes_finds_what_a_plain_one_finds(
    tail: bytes, wanted: bytes, start: int
) -> None:
    raw = b"abc\x00" * 1200 + tail
    assert find(raw, wanted, start) == raw.find(wanted, start)
    assert find(tail, wanted) == tail.find(wanted)
