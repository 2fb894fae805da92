"""Figures of a classifier: how often it is right, on whom it errs, what its probabilities mean."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from gpuserve.routing.classify import UNSURE
from scripts.router_rows import Row

_BINS = 10


@dataclass(frozen=True, slots=True)
class Scored:
    """A row, the classifier's probability of code, and what the rule `'code' in prompt` says."""

    row: Row
    score: float

    @property
    def says_code(self) -> bool:
        """Where it goes when an unsure verdict goes to the general model."""
        return self.score > UNSURE[1]

    @property
    def rule_says_code(self) -> bool:
        """Whether the letters "code" stand in what was said."""
        return "code" in self.row.text.lower()


Says = Callable[[Scored], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Fractions from 0 to 1; a recall is None where no row has the label."""

    rows: int
    accuracy: float
    macro_f1: float
    code_recall: float | None
    general_recall: float | None


def figures(scored: Sequence[Scored], says: Says = lambda one: one.says_code) -> Figures:
    """Return the figures of *scored*, which must not be empty."""
    code = [says(one) for one in scored if one.row.code]
    general = [not says(one) for one in scored if not one.row.code]
    found, kept = sum(code), sum(general)
    wrong = len(scored) - found - kept
    return Figures(
        rows=len(scored),
        accuracy=(found + kept) / len(scored),
        macro_f1=(_f1(found, wrong) + _f1(kept, wrong)) / 2,
        code_recall=found / len(code) if code else None,
        general_recall=kept / len(general) if general else None,
    )


def _f1(hits: int, wrong: int) -> float:
    return 2 * hits / (2 * hits + wrong) if hits or wrong else 1.0


def calibration_error(scored: Sequence[Scored]) -> float:
    """Return the expected calibration error over ten equal bins (Guo et al., ICML 2017)."""
    bins: defaultdict[int, list[Scored]] = defaultdict(list)
    for one in scored:
        bins[min(_BINS - 1, int(one.score * _BINS))].append(one)
    gaps = (abs(sum(o.score - o.row.code for o in found)) for found in bins.values())
    return sum(gaps) / len(scored)


def surest(scored: Sequence[Scored], fraction: float) -> list[Scored]:
    """Return the *fraction* of *scored* whose probabilities are farthest from even."""
    ordered = sorted(scored, key=lambda one: -abs(one.score - 0.5))
    return ordered[: round(len(ordered) * fraction)]


def unsure(scored: Iterable[Scored]) -> list[Scored]:
    """Return those whose verdict is that it is unsure."""
    return [one for one in scored if UNSURE[0] <= one.score <= UNSURE[1]]


def slices(scored: Sequence[Scored], by: str, least: int) -> list[tuple[str, list[Scored]]]:
    """Return (value of the field *by*, its rows) for values with *least* rows, largest first."""
    found: defaultdict[str, list[Scored]] = defaultdict(list)
    for one in scored:
        found[str(getattr(one.row, by))].append(one)
    kept = [(name, rows) for name, rows in found.items() if len(rows) >= least]
    return sorted(kept, key=lambda item: (-len(item[1]), item[0]))
