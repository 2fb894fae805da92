"""Measures the router's classifier on prompts of sources that it was not trained on.

scripts/eval_router                 cross-validation by source over the training corpus
scripts/eval_router FILE…           and the shipped table on labelled files of your own
scripts/eval_router --write         puts the tables into docs/router-classifier.md

In cross-validation every source is scored by weights that no row of it had a part in, and its
probabilities are those that the other sources teach. A FILE has a JSON object with `messages` and
`label` on each line; `lang`, `source` and `kind` are used where they are there.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from gpuserve.routing.classify import classify
from gpuserve.routing.model import Model
from scripts.router_rows import CORPUS, Row, rows_of, training_files
from scripts.router_score import (
    Figures,
    Scored,
    calibration_error,
    figures,
    slices,
    surest,
    unsure,
)
from scripts.router_space import model_of, read_lexicon
from scripts.train_router import calibrated, folds_of, held_out, sample_of, stands_alone

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "router-classifier.md"
BEGIN, END = "<!-- eval -->\n", "<!-- end of eval -->"
LEAST_ROWS = 20  # smaller slices say nothing
CHECK = CORPUS / "check.jsonl"


def cross_validated(rows: Sequence[Row]) -> list[Scored]:
    """Return *rows* as they are scored by what the other sources teach."""
    lexicon = read_lexicon()
    sample = sample_of(rows, lexicon)
    fold_of = dict(zip(sample.sources, folds_of(sample.sources), strict=True))
    found = held_out(sample, lexicon, [fold_of[source] for source in sample.sources])
    models = []
    for fold in found:
        others = [other for other in found if other is not fold]
        slope, offset = calibrated(sample, others)
        models.append(model_of(fold.space, fold.weights, slope, offset, lexicon))
    # A source that has conversations alone taught nothing: any fold will do.
    return [Scored(row, _score(row, models[fold_of.get(row.source, 0)])) for row in rows]


def _score(row: Row, model: Model | None = None) -> float:
    return classify(row.turns, model=model).score


def report(title: str, scored: Sequence[Scored], least: int = LEAST_ROWS) -> str:
    """Return the figures of *scored* as Markdown."""
    alone = [one for one in scored if stands_alone(one.row.turns)]
    lines = [
        f"### {title}",
        "",
        (
            f"{len(scored):,} prompts of {len({one.row.source for one in scored})} sources, "
            f"{len(scored) - len(alone):,} of them inside a conversation or a coding agent. "
            f"Expected calibration error {calibration_error(scored):.1%}; "
            f"{len(unsure(scored)) / len(scored):.1%} unsure, counted as general."
        ),
        "",
        "| | prompts | accuracy | macro-F1 | code recall | general recall |",
        "|---|---|---|---|---|---|",
        _row("the classifier", figures(scored)),
        _row("on the surest 90 %", figures(surest(scored, 0.9))),
        _row("`'code' in prompt`", figures(scored, lambda one: one.rule_says_code)),
    ]
    for by, name in (("source", "source"), ("kind", "kind"), ("lang", "language")):
        found = slices(scored, by, least)
        if len(found) < 2:
            continue
        lines += [
            "",
            f"| {name} | prompts | accuracy | code recall | general recall | `'code' in prompt` |",
            "|---|---|---|---|---|---|",
        ]
        lines += [_slice(value, own) for value, own in found]
    return "\n".join(lines) + "\n"


def _row(name: str, found: Figures) -> str:
    cells = (found.accuracy, found.macro_f1, found.code_recall, found.general_recall)
    return f"| {name} | {found.rows:,} | {' | '.join(map(_fraction, cells))} |"


def _slice(name: str, own: Sequence[Scored]) -> str:
    found, rule = figures(own), figures(own, lambda one: one.rule_says_code)
    cells = (found.accuracy, found.code_recall, found.general_recall, rule.accuracy)
    return f"| {name} | {found.rows:,} | {' | '.join(map(_fraction, cells))} |"


def _fraction(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def with_report(text: str, told: str) -> str:
    """Return *text* with what stands between its markers replaced by *told*."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{DOCUMENT.name} needs the lines {BEGIN.strip()} and {END}")
    return f"{head}{begin}\n{told}\n{end}{tail}"


def main() -> int:
    """Measure, print, and write where that is asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="labelled JSON lines")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {DOCUMENT.name}")
    parser.add_argument("--least", type=int, default=LEAST_ROWS, help="rows that a slice needs")
    parser.add_argument("--only-files", action="store_true", help="no cross-validation")
    asked = parser.parse_args()
    told = []
    if not asked.only_files:
        rows = rows_of(training_files())
        told.append(report("Cross-validation by source", cross_validated(rows), asked.least))
        if CHECK.exists():
            check = [Scored(row, _score(row)) for row in rows_of([CHECK])]
            told.append(report("The check set, by the shipped table", check, asked.least))
    trained_on = {row.source for row in rows_of(training_files())} if asked.files else set()
    for path in asked.files:
        found = rows_of([path])
        new = [row for row in found if row.source not in trained_on]
        if len(new) < len(found):
            print(
                f"{path}: {len(found) - len(new)} rows of trained sources left out", file=sys.stderr
            )
        scored = [Scored(row, _score(row)) for row in new]
        if scored:
            told.append(report(f"{path.name}, by the shipped table", scored, asked.least))
    print("\n".join(told))
    if asked.write:
        text = DOCUMENT.read_text(encoding="utf-8")
        DOCUMENT.write_text(with_report(text, "\n".join(told[:2])), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
