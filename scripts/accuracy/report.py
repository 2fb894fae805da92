"""The accuracy of the predictor as values, as Markdown, and against its targets."""

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gpuserve.machine.checkpoint import catalogue_facts
from gpuserve.memory.architecture import read_architecture
from gpuserve.memory.error import COMPUTED_WEIGHTS_P95, ESTIMATED_WEIGHTS_P95, OVERHEAD_P95_BYTES
from gpuserve.memory.weights import weights_bytes
from gpuserve.units import GIB
from scripts.accuracy.known import CATALOGUE, known_of
from scripts.accuracy.peers import PEERS, peer_pairs
from scripts.accuracy.predict import TERMS, Pair, Prediction, pairs, predictions, verdict_of
from scripts.accuracy.startups import Startup

# Why a start is not met, where its log shows the cause. Keyed by the row.
REASONS = {
    69: "an excerpt: max_num_seqs, max_model_len and the release are missing, a KV connector runs; "
    "the cache is that of one of four ranks, the tokens follow the smallest",
    72: "the checkpoint's list of what it left in 16 bit is not in the log; attention in 16 bit "
    "would give 10.4 GiB",
    75: "a build of 0.7 with VLLM_CUDA_MEM_ALIGN_KV_CACHE=0, between two ways of folding MLA's "
    "projections; what the folded copies take is estimated",
    78: "release 0.2.7, which ran every expert over 32,768 tokens while profiling",
    202: "the log used Triton kernels, which pad one side of an expert less than Marlin",
    204: "a first version of the profiling: 1.79 GiB of non-torch memory, 0.1 to 0.4 in later logs",
    206: "a distilled model with an output head of its own, not the catalogue's row",
    207: "the log is of the second rank, which did not run the sampler before V1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A goal: the share of starts whose error is small enough."""

    term: str
    wanted: float
    met: tuple[int, ...]
    missed: tuple[int, ...]

    @property
    def share(self) -> float:
        """Of the starts that can be compared."""
        return len(self.met) / max(1, len(self.met) + len(self.missed))


def targets(made: list[Prediction]) -> list[Target]:
    """Return the three goals with the rows that meet and miss them."""
    close: dict[str, tuple[float, Callable[[Pair], bool]]] = {
        "KV tokens of given bytes": (0.97, lambda p: abs(p.relative) <= 0.01),
        "weights, GiB": (0.95, lambda p: abs(p.relative) <= 0.02 or abs(p.error) <= 0.1),
        "KV cache, GiB": (0.80, lambda p: abs(p.error) <= 0.5 or abs(p.relative) <= 0.05),
    }
    found = []
    for term, (wanted, near) in close.items():
        compared = pairs(made, term)
        met = tuple(p.row.id for p in compared if near(p))
        missed = tuple(p.row.id for p in compared if not near(p))
        found.append(Target(term=term, wanted=wanted, met=met, missed=missed))
    return found


def percentile(values: list[float], share: float) -> float:
    """Return the smallest value that at least *share* of *values* do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 100) // 100) - 1)]


def margins(made: list[Prediction]) -> dict[str, tuple[float, float, int]]:
    """Return (measured, in use, n) of each margin: GiB for the overhead, shares for weights.

    Starts that REASONS explains by the log are left out: what is missing there is not an error
    of the arithmetic.
    """
    clear = [one for one in made if one.row.id not in REASONS]
    cache = [p.error for p in pairs(clear, "KV cache, GiB")]
    known = [
        p.relative for p in pairs(clear, "weights, GiB") if not _estimated(made, p) and p.actual > 0
    ]
    unseen = as_if_unseen()
    return {
        "overhead, GiB": (percentile(cache, 0.95), OVERHEAD_P95_BYTES / GIB, len(cache)),
        "computed weights": (
            percentile([-r for r in known], 0.95), COMPUTED_WEIGHTS_P95, len(known),
        ),
        "unknown architecture": (
            percentile([-r for r in unseen.values()], 0.95), ESTIMATED_WEIGHTS_P95, len(unseen),
        ),
    }  # fmt: skip


def as_if_unseen() -> dict[str, float]:
    """Return the error of the weights of each known family, one model each, were it not known."""
    rows = json.loads(CATALOGUE.read_text(encoding="utf-8"))["models"]
    found: dict[str, float] = {}
    for name, row in sorted(rows.items(), reverse=True):
        config: dict[str, Any] = row["config"]
        arch = catalogue_facts(*_named(name)).architecture
        if arch is None or not (arch.stack or arch.tower):
            continue
        guessed = read_architecture({**config, "model_type": "unseen"})
        found[arch.model_type] = weights_bytes(guessed) / weights_bytes(arch) - 1
    return found


def _named(name: str) -> tuple[str, str | None]:
    repository, _, revision = name.partition("@")
    return repository, revision or None


def _estimated(made: list[Prediction], pair: Pair) -> bool:
    return next(one.engine.estimated for one in made if one.row is pair.row)


def verdicts(rows: list[Startup]) -> list[dict[str, Any]]:
    """Return the verdict of each start, None where card or fraction are not known."""
    return [
        {"id": row.id, "outcome": row.outcome, "verdict": verdict_of(known_of(row))} for row in rows
    ]


def summary(rows: list[Startup]) -> dict[str, Any]:
    """Return everything that was measured, for --json."""
    made = predictions(rows)
    unknown = [row.id for row in rows if row.id not in {one.row.id for one in made}]
    return {
        "starts": len(rows),
        "without_model": unknown,
        "terms": {term: _spread(pairs(made, term)) for term in TERMS},
        "peers": {
            peer.name: {
                term: _spread(found) for term in TERMS if (found := peer_pairs(peer, made, term))
            }
            for peer in PEERS
        },
        "targets": [
            {
                "term": t.term,
                "wanted": t.wanted,
                "share": round(t.share, 3),
                "n": len(t.met) + len(t.missed),
                "missed": [{"id": i, "why": REASONS.get(i, "")} for i in t.missed],
            }
            for t in targets(made)
        ],
        "verdicts": verdicts(rows),
        "margins": {name: list(values) for name, values in margins(made).items()},
    }


def _spread(found: list[Pair]) -> dict[str, float | int]:
    if not found:
        return {"n": 0}
    errors = [p.error for p in found]
    relative = [abs(p.relative) for p in found if p.actual]
    return {
        "n": len(found),
        "median": round(statistics.median(errors), 4),
        "median_absolute": round(statistics.median(map(abs, errors)), 4),
        "p95_absolute": round(percentile([abs(e) for e in errors], 0.95), 4),
        "median_relative": round(statistics.median(relative), 5) if relative else 0.0,
        "p95_relative": round(percentile(relative, 0.95), 5) if relative else 0.0,
    }
