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
    assert "file name +" in out


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
