"""`gpuserve route --eval`: reads labelled requests and prints how well they are routed."""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from gpuserve.errors import UsageError
from gpuserve.routing.body import BadBody, parse_object
from gpuserve.routing.evaluate import SKIPPED, Judged, judged, labels_of
from gpuserve.routing.table import RoutingTable

# Larger files show a bar on a terminal.
_BAR_BYTES = 1 << 20


@dataclass(slots=True)
class Rows:
    """What a file held: rows that count, rows that are not scored, and lines that are no rows."""

    judged: list[Judged] = field(default_factory=list)
    skipped: int = 0
    lines: int = 0
    bad: list[tuple[int, str]] = field(default_factory=list)


def read_rows(path: Path, table: RoutingTable) -> Rows:
    """Return the rows of the file *path* (`-`: stdin), routed by *table*.

    Raises UsageError when there is no such file.
    """
    rows = Rows()
    labels = labels_of(table)
    with _opened(path) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            rows.lines += 1
            try:
                body, label = _row(line, labels)
                if label == SKIPPED:
                    rows.skipped += 1
                else:
                    rows.judged.append(judged(number, body, label, table))
            except BadBody as error:
                rows.bad.append((number, str(error)))
    return rows


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if str(path) == "-":
        yield sys.stdin.buffer
        return
    try:
        if path.stat().st_size > _BAR_BYTES and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import open as open_with_bar

            console = Console(stderr=True)
            with open_with_bar(
                path, "rb", description=str(path), console=console, transient=True
            ) as bar:
                yield bar
        else:
            with path.open("rb") as file:
                yield file
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def _row(line: bytes, labels: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    body = parse_object(line)
    label = body.get("label")
    if not isinstance(label, str):
        raise BadBody('"label" is missing; expected one of: ' + ", ".join(labels))
    if label not in labels:
        raise BadBody(f'the label "{label[:64]}" is no route; known: {", ".join(labels)}')
    prompt = body.get("prompt")
    if isinstance(prompt, str) and "messages" not in body and "suffix" not in body:
        body = {key: value for key, value in body.items() if key != "prompt"}
        body["messages"] = [{"role": "user", "content": prompt}]
    if not any(key in body for key in ("messages", "prompt", "input")):
        raise BadBody('neither "messages" nor "prompt" is there')
    return body, label


def print_evaluation(found: dict[str, Any]) -> None:
    """Print an evaluation for people."""
    skipped = f", {found['skipped']} not scored" if found["skipped"] else ""
    print(f"rows        {found['rows']:,}{skipped}")
    if not found["rows"]:
        return
    print(f"accuracy    {found['accuracy']:.3f}   macro-F1 {found['macro_f1']:.3f}")
    print(
        f"unsure      {found['unsure']:,}, of which the default was right {found['unsure_right']:,}"
    )
    decided = (f"{step} {count:,}" for step, count in found["decided_by"].items())
    print(f"decided by  {', '.join(decided)}")
    _print_confusion(found)
    _print_thresholds(found["thresholds"])
    if found["worst"]:
        print("\nworst misses")
    for row in found["worst"]:
        score = "" if row["score"] is None else f" p(code)={row['score']:.2f}"
        print(f"  line {row['line']}: {row['label']} went to {row['route']}{score}: {row['text']}")
        print(f"    {row['reason']}")


def _print_confusion(found: dict[str, Any]) -> None:
    confusion = found["confusion"]
    routes = list(dict.fromkeys([*confusion, *(r for row in confusion.values() for r in row)]))
    width = max(len("precision"), *map(len, routes)) + 2
    print(
        "\n"
        + "label".ljust(width)
        + "".join(text.rjust(width) for text in (*routes, "rows", "recall", "precision"))
    )
    for label, scores in found["labels"].items():
        cells = [f"{confusion[label].get(route, 0):,}" for route in routes]
        cells += [f"{scores['rows']:,}"]
        cells += [_fraction(scores["recall"]), _fraction(scores["precision"])]
        print(label.ljust(width) + "".join(cell.rjust(width) for cell in cells))


def _print_thresholds(thresholds: list[dict[str, float]]) -> None:
    if not thresholds:
        return
    best = max(thresholds, key=lambda one: (one["accuracy"], -abs(one["threshold"] - 0.5)))
    even = next(one for one in thresholds if one["threshold"] == 0.5)
    print(
        f"\nof what the classifier saw, threshold {best['threshold']:.2f} would send "
        f"{best['accuracy']:.3f} right, 0.50 {even['accuracy']:.3f}"
    )


def _fraction(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
