"""The table that ships, how it is read and made, and what it was made from."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuserve.routing.classify import classify
from gpuserve.routing.lexicon import Lexicon, entry_kind, hits_in
from gpuserve.routing.marks import marks_of
from gpuserve.routing.model import (
    UNIT,
    Model,
    further,
    lexicon_of,
    observe,
    parsed,
    share_of,
    shipped,
)
from gpuserve.routing.tokens import HEAD_CHARS, TAIL_CHARS, seen_in, tokens_of
from gpuserve.routing.turns import turns_of
from scripts.router_fit import fitted, margins, platt
from scripts.router_rows import Row, source_of
from scripts.router_score import Scored, calibration_error, figures
from scripts.router_space import lexicon_entries, read_lexicon, written
from scripts.train_router import OUT, inputs_digest, main, sample_of, trained
from tests.unit.routing.prompts import CODE, GENERAL

MOST_BYTES = 300_000


def test_the_shipped_table_was_made_from_the_corpus_and_the_lexicon_as_they_are() -> None:
    made_from = re.search(r"^# Inputs: (\w+)$", OUT.read_text("utf-8"), re.MULTILINE)
    assert made_from, "the table names no inputs"
    assert made_from[1] == inputs_digest(), "run scripts/train_router and commit what it writes"


@pytest.mark.slow
def test_training_gives_the_shipped_table_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train_router", "--check"])
    assert main() == 0


def test_the_shipped_table_is_small_sorted_and_read_as_it_was_written() -> None:
    text = OUT.read_text("utf-8")
    assert OUT.stat().st_size < MOST_BYTES
    about = [line[2:] for line in text.splitlines() if line.startswith("# ")]
    assert written(shipped(), lexicon_entries(), about) == text


def test_a_table_of_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="format 99"):
        parsed("[model]\nformat\t99\nbias\t0\n")


def small_sample() -> tuple[list[Row], Lexicon]:
    rows = [
        Row(
            body={"messages": [{"role": "user", "content": text}]},
            code=code,
            lang="en",
            source=f"s{number % 6}",
            licence="Apache-2.0",
            kind="short",
        )
        for code, prompts in ((True, CODE), (False, GENERAL))
        for number, text in enumerate(prompts * 3)
    ]
    return rows, read_lexicon()


def test_training_depends_on_no_order_of_sets_and_learns_what_it_is_shown() -> None:
    rows, lexicon = small_sample()
    made = [trained(sample_of(rows, lexicon), lexicon) for _ in range(2)]
    assert made[0] == made[1]
    right = sum((classify(row.turns, model=made[0]).score > 0.5) == row.code for row in rows)
    assert right / len(rows) > 0.9


def test_the_solver_separates_what_can_be_and_its_bias_is_the_constant() -> None:
    examples = [[(0, 1.0)], [(0, 1.0), (1, 1.0)], [(1, 1.0)], []]
    weights = fitted(examples, [True, True, False, False], [10.0] * 4, 2)
    assert [score > 0 for score in margins(examples, weights)] == [True, True, False, False]
    assert weights[-1] < 0


def test_platt_scaling_gives_the_share_of_code_where_the_margin_says_nothing() -> None:
    slope, offset = platt([0.0] * 10, [True] * 2 + [False] * 8, [1.0] * 10)
    assert offset == pytest.approx(-1.386, abs=0.001)  # ln(2 / 8)
    assert slope == pytest.approx(1.0, abs=0.5)


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("f(x) = 3", None),
        ("len(x)", "call"),
        ("x_1 + a_3", None),
        ("user_name", "snake_case"),
        ("and/or 1/2 https://a.b", None),
        ("see /etc/hosts", "path"),
        ("a well -known thing -- or not", "option"),
        ("ls -la", "option"),
        ("he said - no", None),
        ("getName", "camelCase"),
        ("¿Cómo? Árbol verde", None),
        ("データ(data) 表[1]", None),
        ("a KeyError here", "error type"),
        ("Error and Exception", None),
        ("```python\nx", "fence of code"),
        ("```text\nx", "fenced prose"),
        ("diff --git a/x", "diff"),
        ("#!/bin/sh", "shebang"),
        (r"\frac{1}{2}", "formula"),
    ],
)
def test_marks_are_told_from_what_looks_like_them(text: str, mark: str | None) -> None:
    found = [m for m in marks_of(text) if m != "fence"]
    assert (mark in found) if mark else not found, found


def test_a_phrase_uses_up_its_words_and_accents_may_be_left_out() -> None:
    lexicon = lexicon_of(
        [("trap-phrase", ["zip code"]), ("hint", ["code"]), ("concept", ["función", "массив"])]
    )

    def groups(text: str) -> list[str]:
        seen = seen_in(text)
        return sorted(hits_in(seen, lexicon, set(seen.neighbours())))

    assert groups("my zip code") == ["trap-phrase"]
    assert groups("my code") == ["hint"]
    assert groups("una función") == groups("una funcion") == ["concept"]
    assert groups("два массива") == ["concept"]


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ("python", "word"),
        ("zip code", "pair"),
        ("c++", "word"),
        ("node.js", "pair"),
        ("массив", "stem"),
        ("代码", "part"),
    ],
)
def test_an_entry_is_looked_for_by_its_script(entry: str, kind: str) -> None:
    assert entry_kind(entry) == kind


TEXTS = (
    "def f(x): return x.y + 1  # e.g. c++, c#, .net and node.js...",
    "a\x00b\tc\x1fd\r\ne",
    ".. ..a a.. .",
    "$HOME/@media#id 2nd utf8 x+=1",
    "don\u2019t \u201cquote\u201d \u2014 well\u2026 ok",
)


@pytest.mark.parametrize("text", TEXTS)
def test_ascii_is_cut_into_the_words_that_the_pattern_for_the_rest_finds(text: str) -> None:
    # One Chinese word makes the text no ASCII, so that the pattern cuts it.
    assert tokens_of(f"{text} \u4ee3") == [*tokens_of(text), "\u4ee3"]


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_any_ascii_is_cut_alike_on_both_ways(text: str) -> None:
    assert tokens_of(f"{text} \u4ee3") == [*tokens_of(text), "\u4ee3"]


@given(st.text())
def test_the_router_weighs_what_training_observes(text: str) -> None:
    model = shipped()
    seen = seen_in(text)
    observed = observe(seen, model.lexicon)
    known = [model.words[n] for n in observed.names if n in model.words]
    known += [model.pairs[p] for p in observed.pairs if p in model.pairs]
    total = sum(known) * share_of(len(known))
    for group, entries in observed.hits.items():
        total += model.groups[group] * further(len(entries)) * observed.faint
    total += sum(model.marks.get(mark, 0) for mark in observed.marks)
    assert model.weigh(seen).total == pytest.approx(total / UNIT)


def test_only_the_window_of_a_long_text_is_read() -> None:
    seen = seen_in("head " * (HEAD_CHARS // 5) + "middle " * 5000 + "tail " * (TAIL_CHARS // 5))
    assert {"head", "tail"} <= seen.words
    assert sum(map(len, seen.tokens)) < HEAD_CHARS + TAIL_CHARS


def test_a_text_that_imitates_features_is_bounded_and_still_a_probability() -> None:
    words = " ".join(shipped().words)
    for text in (words, "python " * 500_000, "zip code " * 300_000, "```" * 500_000):
        said = classify(turns_of({"prompt": text}))
        assert 0 < said.score < 1
        assert all(len(reason) < 2100 for reason in said.reasons)


def test_every_row_of_the_lexicon_is_in_one_class_and_every_class_has_a_weight() -> None:
    model = shipped()
    groups = {group for group, _ in lexicon_entries()} - {"make", "thing"}
    assert set(model.groups) == groups
    assert model.groups["certain"] > model.groups["hint"] > 0 > model.groups["story"]


def test_an_empty_model_knows_nothing() -> None:
    observed = observe(seen_in(""), Lexicon())
    assert (observed.names, observed.hits, observed.marks) == (set(), {}, [])
    assert classify(turns_of({"prompt": "x"}), model=Model()).score == 0.5


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("templated:owner/repo:a/b.py", "owner/repo"),
        ("wrapped:owner/repo@abc", "owner/repo"),
        ("own:trap", "own:trap"),
        ("bfcl-eval:part", "bfcl-eval"),
    ],
)
def test_rows_of_one_origin_are_one_source(name: str, source: str) -> None:
    assert source_of(name) == source


def test_figures_count_both_labels_and_calibration_is_the_gap_to_what_happens() -> None:
    rows, _ = small_sample()
    code, general = rows[0], rows[-1]
    scored = [Scored(code, 0.95), Scored(code, 0.05), Scored(general, 0.05), Scored(general, 0.05)]
    found = figures(scored)
    assert (found.accuracy, found.code_recall, found.general_recall) == (0.75, 0.5, 1.0)
    assert calibration_error(scored) == pytest.approx((0.05 + abs(0.15 - 1)) / 4)


def test_the_training_never_reads_the_check_set(tmp_path: Path) -> None:
    del tmp_path
    from scripts.router_rows import training_files

    assert "check.jsonl" not in {path.name for path in training_files()}
