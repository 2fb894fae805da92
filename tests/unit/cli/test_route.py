import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from gpuserve.cli.main import main


def feed(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_prompt_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["route", "fix this TypeError in app.py"]) == 0
    out = capsys.readouterr().out
    assert "route       code\n" in out
    assert "typeerror +" in out


def test_json_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["route", "--json", "a poem about love"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["route"], told["model"], told["fallback"]) == ("general", "general", None)
    assert told["score"] < 0.4


@pytest.mark.parametrize("words", [["route"], ["route", "-"]])
def test_without_a_prompt_stdin_is_read(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feed(monkeypatch, b"def f(x):\n    return x\n\xff")
    assert main(words) == 0
    assert "route       code" in capsys.readouterr().out


def test_each_line_is_answered_under_its_id_and_bad_ones_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feed(
        monkeypatch,
        b'{"id": "a", "messages": [{"role": "user", "content": "git rebase fails"}]}\n'
        b"nonsense\n\n"
        b'{"id": 4, "model": 7, "messages": []}\n'
        b'{"id": 5, "model": "gone", "messages": []}\n'
        b'{"id": [6], "messages": [{"role": "user", "content": "tell me a joke"}]}\n',
    )
    assert main(["route", "--jsonl"]) == 1
    first, bad, odd, unknown, last = lines(capsys)
    assert (first["id"], first["route"], first["model"]) == ("a", "code", "code")
    assert {"reason", "score"} <= set(first)
    assert (bad["id"], bad["line"]) == (None, 2)
    assert "not valid JSON" in bad["error"]
    assert (odd["id"], odd["line"]) == (4, 4)
    assert "number" in odd["error"]
    assert (unknown["id"], unknown["line"], unknown["route"]) == (5, 5, None)
    assert (last["id"], last["route"]) == ([6], "general")


def test_good_lines_alone_end_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feed(monkeypatch, b'{"messages": [{"role": "user", "content": "hi"}]}')
    assert main(["route", "--jsonl", "-"]) == 0
    assert lines(capsys)[0]["id"] is None


def test_with_a_profile_the_models_are_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = tmp_path / "p.toml"
    profile.write_text(
        '[[model]]\nname = "deepseek"\nmodel = "a/b"\n[[model]]\nname = "mistral"\nmodel = "c/d"\n'
        '[routing]\ncode = "deepseek"\ngeneral = "mistral"\ndefault = "mistral"\n'
    )
    assert main(["route", "--profile", str(profile), "--json", "write a SQL query"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "deepseek"


def test_a_prompt_beside_jsonl_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["route", "--jsonl", "hello"]) == 2
    assert "stdin" in capsys.readouterr().err


def test_an_argument_that_is_not_utf8_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["route", "write a regex \udcff"]) == 0
    assert "route       code" in capsys.readouterr().out


PROFILE = """
[[model]]
name = "coder"
aliases = ["deepseek"]
model = "o/c"
max_model_len = 4096
[[model]]
name = "chat"
model = "o/g"
max_model_len = 4096
[[model]]
name = "billing"
model = "o/b"
max_model_len = 4096
[routing]
code = "coder"
general = "chat"
clamp_max_tokens = true
[[route]]
name = "bills"
model = "billing"
keywords = ["invoice", "refund"]
fallback = ["chat"]
[[route]]
name = "team"
model = "billing"
header = { x-team = "finance" }
"""


@pytest.fixture
def profile(tmp_path: Path) -> str:
    path = tmp_path / "p.toml"
    path.write_text(PROFILE)
    return str(path)


def explained(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    main(["route", "--json", *words])
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_a_rule_is_named_with_what_made_it_hold_and_who_would_stand_in(
    profile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["route", "--profile", profile, "where is my refund?"]) == 0
    out = capsys.readouterr().out
    assert "route       bills\nmodel       billing\ndecided by  rule\n" in out
    assert 'because     keyword "refund"\nfallback    chat\n' in out
    told = explained(capsys, "--profile", profile, "where is my refund?")
    assert (told["hits"], told["fallbacks"], told["score"]) == (
        ['keyword "refund"'],
        ["chat"],
        None,
    )


def test_models_can_be_said_to_be_down(profile: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = explained(capsys, "--profile", profile, "--down", "billing", "where is my refund?")
    assert (told["route"], told["model"]) == ("bills", "chat")
    assert told["fallback"] == "billing: Stopped, said to be down"
    downs = ["--down", "billing", "--down", "chat"]
    assert main(["route", "--profile", profile, *downs, "where is my refund?"]) == 1
    out = capsys.readouterr().out
    assert "nobody answers: billing is not ready" in out
    assert "status      503 model_not_ready\nmeant for   billing, rule bills" in out
    assert main(["route", "--down", "nobody", "x"]) == 2
    assert "known: code, general" in capsys.readouterr().err


def test_headers_can_be_said(profile: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = explained(capsys, "--profile", profile, "--header", "X-Team: finance", "hello")
    assert (told["route"], told["reason"]) == ("team", "rule team: header x-team")
    pinned = explained(capsys, "--profile", profile, "--header", "x-gpuserve-route:code", "hello")
    assert (pinned["decided_by"], pinned["model"]) == ("header", "coder")
    assert explained(capsys, "--header", "x-gpuserve-model:x", "hello")["code"] == "unknown_model"
    assert main(["route", "--header", "nonsense", "x"]) == 2


def test_a_whole_body_can_be_explained(profile: str, capsys: pytest.CaptureFixture[str]) -> None:
    body = '{"model": "deepseek", "max_tokens": 32000, "messages": []}'
    assert main(["route", "--profile", profile, "--body", body]) == 0
    out = capsys.readouterr().out
    assert "because     the request names coder by its alias deepseek\n" in out
    assert "max_tokens  lowered to 40" in out
    fim = explained(capsys, "--profile", profile, "--body", '{"prompt": "a", "suffix": "b"}')
    assert (fim["decided_by"], fim["model"]) == ("kind", "coder")
    assert main(["route", "--body", "{"]) == 2
    assert "not valid JSON" in capsys.readouterr().err


ROWS = """
{"messages": [{"role": "user", "content": "fix this python function"}], "label": "code"}
{"prompt": "write a poem about a garden", "label": "general", "model": "coder"}
{"prompt": "write a poem about a garden", "label": "code"}
{"prompt": "where is my refund?", "label": "bills"}
{"prompt": "LaTeX", "label": "borderline"}
""".lstrip()


def test_labelled_requests_are_measured(
    profile: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(ROWS)
    words = ["route", "--profile", profile, "--eval", str(rows)]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "rows        4, 1 not scored\naccuracy    0.750" in out
    assert "line 3: code went to general p(code)=0." in out
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == 0.75
    assert found["confusion"]["code"] == {"code": 1, "general": 1}
    assert found["labels"]["code"] == {"rows": 2, "recall": 0.5, "precision": 1.0, "f1": 2 / 3}
    assert found["decided_by"] == {"classifier": 3, "rule": 1}
    assert [row["line"] for row in found["worst"]] == [3]
    by_threshold = {one["threshold"]: one["accuracy"] for one in found["thresholds"]}
    assert by_threshold[0.5] == pytest.approx(2 / 3)
    assert (found["skipped"], found["bad_lines"]) == (1, [])


def test_lines_that_cannot_be_measured_are_named_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(
        b'{"prompt": "x"}\nnonsense\n\n{"prompt": "x", "label": "bills"}\n{"label": "code"}\n\xff\n'
        b'{"prompt": "a joke", "label": "general"}\n'
    )
    assert main(["route", "--eval", str(rows), "--json"]) == 1
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert found["rows"] == 1
    assert [bad["line"] for bad in found["bad_lines"]] == [1, 2, 4, 5, 6]
    assert 'line 1: "label" is missing; expected one of: code, general, default' in told.err
    assert 'line 4: the label "bills" is no route' in told.err
    assert "5 of 6 lines cannot be used" in told.err
    rows.write_text("")
    assert main(["route", "--eval", str(rows)]) == 1
    assert "rows        0" in capsys.readouterr().out
    assert main(["route", "--eval", str(tmp_path / "no")]) == 2
    assert main(["route", "--eval", str(rows), "hello"]) == 2
