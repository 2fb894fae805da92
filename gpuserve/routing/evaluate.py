"""How well a profile's routing does on labelled requests: accuracy, confusion, the worst misses."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpuserve.routing.explain import explain
from gpuserve.routing.spoken import said
from gpuserve.routing.table import RoutingTable

# A label for rows that are neither; they are counted and not scored.
SKIPPED = "borderline"
_WORST = 10
_TEXT_CHARS = 100
# Where the threshold of the profile might stand instead.
_THRESHOLDS = tuple(round(0.05 * n, 2) for n in range(1, 20))


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One labelled row and where it went; `score` is the probability of code, None: not asked."""

    line: int
    label: str
    route: str
    step: str
    unsure: bool
    score: float | None
    text: str
    why: str

    @property
    def right(self) -> bool:
        """Whether it went where its label says."""
        return self.route == self.label


def judged(line: int, body: dict[str, Any], label: str, table: RoutingTable) -> Judged:
    """Return where *body* goes by *table*; a model that it names is left aside.

    What nobody would answer has the route "refused". Raises BadBody.
    """
    asked = {key: value for key, value in body.items() if key not in ("model", "label", "id")}
    told = explain(asked, table)
    text = " ".join((said(asked) or [""])[0][: 4 * _TEXT_CHARS].split())
    return Judged(
        line=line,
        label=label,
        route=told["route"] or "refused",
        step=told.get("decided_by", "refused"),
        unsure=told.get("verdict") == "unsure",
        score=told["score"],
        text=text if len(text) <= _TEXT_CHARS else text[: _TEXT_CHARS - 1] + "…",
        why=told.get("error") or told["reason"],
    )


def labels_of(table: RoutingTable) -> tuple[str, ...]:
    """Return the labels that a row may have: the routes, and the one that is not scored."""
    return (*table.chains, SKIPPED)


def evaluation(rows: Sequence[Judged]) -> dict[str, Any]:
    """Return what *rows* show, as plain data.

    `rows`, `accuracy`, `macro_f1`; `labels`: for each its `rows`, `recall`, `precision`, `f1`;
    `confusion`: label → route → rows; `unsure` and `unsure_right`; `decided_by`: step → rows;
    `thresholds`: the accuracy that each would give on what the classifier saw; `worst`: the
    misses of which the classifier was surest, then the others. Fractions are None without rows.
    """
    labels = sorted({row.label for row in rows})
    confusion = {label: Counter(r.route for r in rows if r.label == label) for label in labels}
    scores = {label: _scores(label, confusion) for label in labels}
    misses = sorted((row for row in rows if not row.right), key=_surprise, reverse=True)
    return {
        "rows": len(rows),
        "accuracy": _ratio(sum(row.right for row in rows), len(rows)),
        "macro_f1": _ratio(sum(score["f1"] for score in scores.values()), len(scores)),
        "labels": scores,
        "confusion": {label: dict(counts.most_common()) for label, counts in confusion.items()},
        "unsure": sum(row.unsure for row in rows),
        "unsure_right": sum(row.unsure and row.right for row in rows),
        "decided_by": dict(Counter(row.step for row in rows).most_common()),
        "thresholds": _thresholds(rows),
        "worst": [
            {
                "line": row.line,
                "label": row.label,
                "route": row.route,
                "score": row.score,
                "reason": row.why,
                "text": row.text,
            }
            for row in misses[:_WORST]
        ],
    }


def _scores(label: str, confusion: dict[str, Counter[str]]) -> dict[str, Any]:
    right = confusion[label][label]
    count = confusion[label].total()
    taken = sum(counts[label] for counts in confusion.values())
    return {
        "rows": count,
        "recall": _ratio(right, count),
        "precision": _ratio(right, taken),
        "f1": 2 * right / (count + taken),
    }


def _thresholds(rows: Sequence[Judged]) -> list[dict[str, float]]:
    scored = [
        (row.score, row.label == "code")
        for row in rows
        if row.score is not None and row.label in ("code", "general")
    ]
    return [
        {
            "threshold": threshold,
            "accuracy": sum((score >= threshold) == code for score, code in scored) / len(scored),
        }
        for threshold in (_THRESHOLDS if scored else ())
    ]


def _surprise(row: Judged) -> float:
    return -1.0 if row.score is None else abs(row.score - 0.5)


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None
