"""The compiled part of the classifier says what Python says, to the last bit."""

import json
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuserve.routing.classify import classify, scanned, weighed
from gpuserve.routing.compiled import COMPILED, scan_of, table_of
from gpuserve.routing.model import Model, lexicon_of, shipped
from gpuserve.routing.request import plain_need
from gpuserve.routing.turns import Turns, turns_of
from scripts.odd_requests import LONG_CHARS, PATH, Bodies, Maker, difference, misread
from scripts.router_rows import rows_of, training_files

COMPILER = shutil.which("cc") and Path(sysconfig.get_paths()["include"], "Python.h").exists()

needs_it = pytest.mark.skipif(
    not COMPILED and not COMPILER, reason="there is no C compiler, so nothing was compiled"
)


@needs_it
def test_it_is_there_where_there_is_a_compiler() -> None:
    assert COMPILED


@needs_it
def test_every_row_of_the_corpus_gets_the_same_verdict() -> None:
    rows = list(rows_of(training_files()))
    assert not [why for row in rows if (why := difference(row.turns))]
    left = sum(scanned(row.turns) is None for row in rows)
    assert left < len(rows) / 1000


@needs_it
@given(st.integers(min_value=0))
def test_so_does_what_is_made_of_known_words_and_odd_characters(seed: int) -> None:
    assert difference(MAKER.turns(Random(seed))) is None


@needs_it
@given(st.text(), st.lists(st.text(), max_size=2), st.text())
def test_so_does_any_text(last: str, earlier: list[str], system: str) -> None:
    turns = Turns(last=last, earlier=tuple(earlier), reply=last[:9], system=system)
    assert difference(turns) is None


@needs_it
def test_every_character_is_to_both_a_letter_a_space_or_of_another_script() -> None:
    # What separates two known words makes them known; what joins them makes another name. Every
    # name counts in the sum, beyond forty of them.
    filler = " ".join(["python", *(f"w{n}" for n in range(40))])
    for begin in range(0, sys.maxunicode + 1, 16):
        points = [p for p in range(begin, begin + 16) if not 0xD800 <= p < 0xE000]
        turns = Turns(last=" ".join([filler, *(f"function{chr(p)}query" for p in points)]))
        assert scanned(turns) in (None, weighed(turns, shipped())), hex(begin)


@needs_it
@pytest.mark.parametrize(
    "text",
    [
        "",
        "\ud800 python",
        "a" * 3000,
        "." * 10_000,
        "python. " * 5000,
        "世" * 5000,
        "ß" * 600 + "İ" * 600,
        "zip code " * 1000,
        "a_b(c[d" * 1000,
        " ".join(shipped().words),
        " ".join(sorted(shipped().lexicon.parts)),
    ],
    ids=lambda text: repr(text[:12]),
)
def test_long_and_odd_texts_are_no_different(text: str) -> None:
    turns = Turns(last=text, earlier=(text[:300],) * 4, reply=text[:150], system=text)
    assert difference(turns) is None


@needs_it
@given(st.integers(min_value=0))
def test_a_body_is_read_as_a_parser_reads_it_or_left_to_that(seed: int) -> None:
    random = Random(seed)
    for _ in range(20):
        assert misread(BODIES.body(random)) is None


@needs_it
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b'{"model":"auto"}',
        b'{"model":"auto","messages":[]}',
        b'{"messages":[{"role":"user","content":"a"}]}',
        b'{"model":"","messages":[{"role":"user","content":"a"}]}',
        b'{"model":"a","model":"b","messages":[{"role":"user","content":"a"}]}',
        b'{"model":"a","messages":[{"role":"user","role":"user"}]}',
        b'{"model":"a","messages":[{"content":"a","content":"b"}]}',
        b'{"model":"a","messages":[{"role":"user","content":"a","content":"b"}]}',
        b'{"model":"a","messages":[{"role":"user","content":"a"}],"x":1}',
        b'{"model":"a","messages":[{"role":"user","content":"a"}]}}',
        b'{"model":"a","messages":[{"role":"user","content":"a"},]}',
        b'{"model":"a","messages":[{"role":"user","content":"a"}],}',
        rb'{"model":"a","messages":[{"role":"user","content":"\ud800"}]}',
        rb'{"model":"a","messages":[{"role":"user","content":"\udc00\ud800"}]}',
        rb'{"model":"a","messages":[{"role":"user","content":"\u12"}]}',
        rb'{"model":"a","messages":[{"role":"user","content":"\x"}]}',
        b'{"model":"a","messages":[{"role":"user","content":"\\',
        b'{"model":"a","messages":[{"role":"user","content":"\xff"}]}',
        b'{"model":"a","messages":[{"role":"user","content":"a\nb"}]}',
        b'{"model":"a","messages":[{"role":"user","content":"a"}],"max_tokens":007}',
        b'{"model":"a","messages":[{"role":"user","content":"a"}],"max_tokens":1.}',
        b'{"model":"a","messages":[{"role":"user","content":"a"}],"max_tokens":1e5}',
        b'{"model":"a","messages":[{"role":"user","content":"a"}],"max_tokens":-}',
        b'{"model":"a","messages":[{"role":"user","content":"a"}],"stream":null}',
        b"\xef\xbb\xbf" + b'{"model":"a","messages":[{"role":"user","content":"a"}]}',
    ],
)
def test_what_is_no_plain_request_is_parsed(raw: bytes) -> None:
    assert plain_need(PATH, raw) is None


@needs_it
@pytest.mark.parametrize(
    "text", ["a b " * 30_000, "世界 " * 20_000, "😀" * 20_000, '\n\\"' * 30_000]
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_the_middle_of_a_long_text_may_be_left_out_but_not_unseen(
    text: str, ascii_only: bool
) -> None:
    said = [{"role": "system", "content": text}, {"role": "user", "content": text}]
    raw = json.dumps({"model": "auto", "messages": said}, ensure_ascii=ascii_only).encode()
    need = plain_need(PATH, raw)
    assert need is not None
    assert need.turns is not None
    assert LONG_CHARS < len(need.turns.last) < len(text)
    assert misread(raw) is None
    for bad in (b"\xff", b"\xed\xa0\x80", b"\xe2\x82", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\x01"):
        middle = len(raw) // 4
        while raw[middle] & 0xC0 == 0x80 or raw[middle - 8 : middle].count(b"\\"):
            middle += 1
        assert plain_need(PATH, raw[:middle] + bad + raw[middle:]) is None
    assert plain_need(PATH, raw.replace(b"auto", b"m" * 40_000)) is None


@needs_it
def test_a_plain_request_is_not_parsed() -> None:
    text = 'é "\n' * 100
    said = [
        {"role": "developer", "content": "be brief"},
        *({"role": role, "content": text} for role in ("user", "assistant") * 6),
        {"role": "user", "content": "and 日付 \\ 😀?"},
    ]
    body = {"model": "auto", "messages": said, "stream": True, "max_tokens": 7, "temperature": 0.5}
    body |= {"stream_options": {"include_usage": True}, "user": "ü"}
    for ascii_only in (True, False):
        raw = json.dumps(body, ensure_ascii=ascii_only).encode()
        need = plain_need(PATH, raw)
        assert need is not None
        assert need.turns == turns_of(body)
        assert (need.stream, need.wanted_tokens, need.model) == (True, 7, "auto")
        assert misread(raw) is None
        assert plain_need("/v1/messages", raw) is None


@needs_it
def test_a_verdict_with_the_compiled_part_is_the_one_without_it() -> None:
    # Another process, in which it cannot be imported.
    code = (
        "import sys; sys.modules['gpuserve.routing._compiled'] = None\n"
        "from gpuserve.routing import classify, compiled, turns\n"
        "assert not compiled.COMPILED\n"
        "print(classify.classify(turns.turns_of({'prompt': sys.argv[1]})))"
    )
    prompt = "Write a Python function that parses 日付"
    done = subprocess.run(
        [sys.executable, "-c", code, prompt], stdout=subprocess.PIPE, text=True, check=True
    )
    assert done.stdout.strip() == str(classify(Turns(last=prompt)))


@needs_it
def test_a_model_too_large_for_it_is_refused() -> None:
    groups = {f"class-{n}": 1 for n in range(65)}
    with pytest.raises(ValueError, match="groups, room for 64"):
        scan_of(replace(shipped(), groups=groups))
    with pytest.raises(ValueError, match="pairs, room for 16384"):
        scan_of(Model(pairs={(f"a{n}", "b"): 1 for n in range(20_000)}))
    scan_of(Model(lexicon=lexicon_of([("hint", ["code", "массив", "代码"])])))


@needs_it
@pytest.mark.parametrize("name", table_of(shipped()))
@pytest.mark.parametrize(
    "bad", [None, 7, "words", [None], [()], [("x",)], [(0,) * 9], [(1 << 40, 1 << 40)], ()]
)
def test_a_table_that_is_none_is_refused(name: str, bad: Any) -> None:
    table: dict[str, Any] = {**table_of(Model()), name: bad}
    from gpuserve.routing._compiled import Scan

    with pytest.raises((TypeError, ValueError, OverflowError, SystemError)):
        Scan(**table)


@needs_it
def test_places_beyond_the_table_are_refused() -> None:
    from gpuserve.routing._compiled import Scan

    table = table_of(Model())
    begin, *others = table["whole"]
    for broken in (
        {"pairs": [(0, 1 << 20, "a b", 0, 0, -1)]},
        {"parts": [(1 << 20, 0)]},
        {"signs": [(1 << 20, "x", 1.0)]},
        {"words": [("x", 0, 0, 99, 0)]},
        {"words": [("", 0, 0, -1, 0)]},
        {"words": [("x" * 256, 0, 0, -1, 0)]},
        {"other_marks": [99] * 12},
        {"whole": (1 << 20, *others)},
        {"whole": (begin, 99, *others[1:])},
    ):
        with pytest.raises(ValueError, match="out of range"):
            Scan(**{**table, **broken})


MAKER, BODIES = Maker(), Bodies()
