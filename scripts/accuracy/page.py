"""docs/memory-accuracy.md, written from the measurements."""

from collections.abc import Iterator, Sequence
from typing import Any

from scripts.accuracy import owncard, secondcard
from scripts.accuracy.counts import load_counts
from scripts.accuracy.predict import TERMS, Prediction, pairs, predictions
from scripts.accuracy.report import REASONS, summary
from scripts.accuracy.startups import Startup

_INTRODUCTION = """\
# How accurate the memory plan is

Written by `scripts/memory_accuracy` from published start logs of vLLM
([the data](../tests/data/README.md)): what gpuserve predicts from model, flags, card and release,
beside what vLLM printed. Nothing that the log says later goes into a prediction. Settings that a
log leaves out are vLLM's defaults for that release and card.

Errors are predicted less printed. A figure of the 95th percentile is of absolute errors.
"""
_MARGINS = """\
`check` calls a plan *risky* when it fails at the 95th percentile of these errors. The margins in
use are the measured ones, rounded up; logs that lack a flag that matters are left out of them.
"""
_UNSEEN = """\
The last row measures architectures that gpuserve does not know, by pretending: each known family
that differs from the usual layout (latent attention, recurrent layers, Gemma 4, gpt-oss, Llama 4,
vision towers …) is computed as a type that was never seen. The worst of them is 5.6 % too small.
"""


def page(rows: Sequence[Startup], more: Sequence[Startup]) -> str:
    """Return the page for *rows*; *more* is a second set that nothing was fitted on."""
    return "\n".join(_lines(list(rows), list(more))) + "\n"


def _lines(rows: list[Startup], more: list[Startup]) -> Iterator[str]:
    found = summary(rows)
    yield _INTRODUCTION
    yield from _targets(found)
    yield from _terms(found)
    yield from _peers(found)
    yield from _margins(found)
    yield from _failed(rows, found)
    made = predictions(rows)
    yield from _counts()
    yield from owncard.section()
    yield from secondcard.section()
    yield "\n## Every start\n"
    yield from _starts(made)
    unnamed = found["without_model"]
    if unnamed:
        listed = ", ".join(map(str, unnamed))
        yield f"\nRows {listed} name no model, so only a verdict can be given.\n"
    if more:
        yield "\n## A second set\n"
        yield "Excerpts from other threads, looked at after everything was fitted.\n"
        yield from _failed(more, summary(more))
        yield from _starts(predictions(more))


def _targets(found: dict[str, Any]) -> Iterator[str]:
    yield "## Targets\n"
    yield "| figure | near enough | wanted | reached | n |"
    yield "|---|---|---|---|---|"
    near = {
        "KV tokens of given bytes": "1 %",
        "weights, GiB": "2 % or 0.1 GiB",
        "KV cache, GiB": "5 % or 0.5 GiB, card and fraction known",
    }
    for target in found["targets"]:
        term = target["term"]
        yield (
            f"| {term} | {near[term]} | {target['wanted']:.0%} | {target['share']:.1%} | "
            f"{target['n']} |"
        )
    worked = [v for v in found["verdicts"] if v["outcome"] == "started" and v["verdict"]]
    refused = [v["id"] for v in worked if v["verdict"] == "does_not_fit"]
    yield (
        f"| starts that worked, called does_not_fit | | at most 3% | "
        f"{len(refused) / max(1, len(worked)):.1%} | {len(worked)} |"
    )
    yield "\nThe misses, by row of the table below:\n"
    seen: dict[int, list[str]] = {}
    for target in found["targets"]:
        for miss in target["missed"]:
            seen.setdefault(miss["id"], []).append(target["term"].partition(",")[0])
    for row, terms in sorted(seen.items()):
        yield f"- {row} ({'; '.join(terms)}): {REASONS.get(row, 'not explained by the log')}"
    yield ""


def _terms(found: dict[str, Any]) -> Iterator[str]:
    yield "## Error of each term\n"
    yield "| term | n | median error | median, absolute | 95 %, absolute | median, % | 95 %, % |"
    yield "|---|---|---|---|---|---|---|"
    for term, spread in found["terms"].items():
        yield f"| {term} | {_cells(spread)} |"
    yield ""
    yield (
        "CUDA graphs lay on top of the budget before 0.20, and what logs print then holds other"
        " allocations\ntoo (it can be negative); the five newest rows are the ones that count."
        "\n"
    )


def _cells(spread: dict[str, Any]) -> str:
    if not spread["n"]:
        return "0 | | | | | "
    return (
        f"{spread['n']} | {spread['median']:,.3g} | {spread['median_absolute']:,.3g} | "
        f"{spread['p95_absolute']:,.3g} | {spread['median_relative']:.2%} | "
        f"{spread['p95_relative']:.2%}"
    )


def _peers(found: dict[str, Any]) -> Iterator[str]:
    yield "## Other rules on the same starts\n"
    yield "| rule | figure | n | median, absolute | 95 %, absolute | median, % |"
    yield "|---|---|---|---|---|---|"
    both = {"gpuserve": found["terms"], **found["peers"]}
    for term in ("weights, GiB", "KV cache, GiB", "KV tokens of given bytes"):
        for name, terms in both.items():
            spread = terms.get(term)
            if spread and spread["n"]:
                yield (
                    f"| {name} | {term} | {spread['n']} | {spread['median_absolute']:,.3g} | "
                    f"{spread['p95_absolute']:,.3g} | {spread['median_relative']:.2%} |"
                )
    yield (
        "\n*Quick guides* take billions of parameters x bytes for weights, 2 x hidden x 2 bytes for"
        " a token,\nand nothing else. *GPUStack* takes weights x 1.2 + 2 GiB for all but the cache."
        " *Checkpoint size* is what\n`accelerate estimate-memory` and hf-mem print; both read the"
        " hub, so it is computed here.\n"
    )


def _margins(found: dict[str, Any]) -> Iterator[str]:
    yield "## Margins\n"
    yield _MARGINS
    yield "| margin | measured | in use | n |"
    yield "|---|---|---|---|"
    for name, (measured, used, count) in found["margins"].items():
        unit = "GiB" if name.endswith("GiB") else "%"
        scale = 1 if unit == "GiB" else 100
        yield f"| {name} | {measured * scale:.2f} {unit} | {used * scale:.2f} {unit} | {count} |"
    yield ""
    yield _UNSEEN


def _counts() -> Iterator[str]:
    yield "## Counted by real vLLM\n"
    yield "Tiny models of each kind on vLLM 0.32 for CPU, 1 GiB of cache, 2,048 tokens a request.\n"
    yield "| layers | tokens predicted | tokens printed | requests predicted | requests printed |"
    yield "|---|---|---|---|---|"
    for counted in load_counts():
        tokens, requests = counted.predicted()
        yield (
            f"| {counted.name} | {tokens:,} | {counted.kv_cache_tokens:,} | {requests:.2f} | "
            f"{counted.max_concurrency:.2f} |"
        )
    yield ""


def _failed(rows: list[Startup], found: dict[str, Any]) -> Iterator[str]:
    failed = [v for v in found["verdicts"] if v["outcome"] != "started"]
    if not failed:
        return
    by_id = {row.id: row for row in rows}
    yield "## Starts that failed\n"
    yield "| row | model | vLLM said | check would have said |"
    yield "|---|---|---|---|"
    for verdict in failed:
        row = by_id[verdict["id"]]
        said = verdict["verdict"] or "nothing: card or fraction are not in the log"
        yield f"| {row.id} | {row.model_id or 'not named'} | {row.outcome} | {said} |"
    yield ""


def _starts(made: list[Prediction]) -> Iterator[str]:
    compared = {term: {p.row.id: p for p in pairs(made, term)} for term in TERMS}
    shown = ("weights, GiB", "activation peak, GiB", "KV cache, GiB", "concurrency")
    yield "| row | vLLM | model | " + " | ".join(shown) + " | source |"
    yield "|---" * (len(shown) + 4) + "|"
    for one in made:
        row = one.row
        cells = []
        for term in shown:
            pair = compared[term].get(row.id)
            cells.append("" if pair is None else f"{pair.predicted:,.2f} / {pair.actual:,.2f}")
        release = row.vllm_version or "?"
        source = f"[log]({row.source})" if row.source.startswith("http") else row.source
        name = row.model or row.model_id or ""
        yield " | ".join((f"| {row.id}", release.partition("+")[0], name, *cells, f"{source} |"))
    yield "\nPredicted / printed; empty: the log does not have it, or lacks card or fraction."
