"""Prints what one verdict costs, as Markdown: python -m scripts.time_classifier [--write]

The mean over prompts of the training corpus of about a size, each the best of five turns, in
microseconds: with the compiled part, where there is one, and in Python alone. Sizes beyond those of
the corpus are such prompts repeated.
"""

import sys
import time
from statistics import mean

from gpuserve.routing.classify import classify
from gpuserve.routing.compiled import COMPILED
from gpuserve.routing.model import Model, shipped
from gpuserve.routing.turns import turns_of
from scripts.eval_router import DOCUMENT
from scripts.router_rows import rows_of, training_files

BEGIN, END = "<!-- cost -->\n", "<!-- end of cost -->"
SIZES = ((200, 60), (1_000, 250), (2_000, 500))
_MOST_PROMPTS = 200
_TURNS = 5


def table() -> str:
    """Return the costs by size as a Markdown table."""
    texts = [row.turns.last for row in rows_of(training_files())]
    lines = [
        "| prompt | compiled: ASCII | other | Python: ASCII | other |",
        "|---|---|---|---|---|",
    ]
    kinds = [[t for t in texts if t.isascii() is ascii_only] for ascii_only in (True, False)]
    for size, within in SIZES:
        near = [[t for t in kind if abs(len(t.encode()) - size) <= within] for kind in kinds]
        lines.append(f"| {size:,} bytes | {_costs(near)} |")
    for size in (32_000, 1_000_000):
        grown = [[t * (size // len(t)) for t in kind if len(t) > 500][:50] for kind in kinds]
        lines.append(f"| {size:,} characters | {_costs(grown)} |")
    return "\n".join(lines)


def _costs(kinds: list[list[str]]) -> str:
    """Return the cells of a row: what *kinds* of texts cost, compiled and not."""
    python = [_cost(texts, shipped()) for texts in kinds]
    return " | ".join((*(_cost(texts, None) if COMPILED else "–" for texts in kinds), *python))


def _cost(texts: list[str], model: Model | None) -> str:
    spent = [_once_us(text, model) for text in texts[:_MOST_PROMPTS]]
    return f"{mean(spent):.0f}" if spent else "–"


def _once_us(text: str, model: Model | None) -> float:
    turns = turns_of({"prompt": text})
    best = float("inf")
    for _ in range(_TURNS):
        began = time.perf_counter()
        classify(turns, model=model)
        best = min(best, time.perf_counter() - began)
    return best * 1e6


def main() -> int:
    """Print the table, and put it into the document where that is asked."""
    told = table()
    print(told)
    if "--write" in sys.argv[1:]:
        head, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
        DOCUMENT.write_text(f"{head}{BEGIN}\n{told}\n\n{END}{rest.partition(END)[2]}", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
