"""Trains the router's classifier and writes its table, gpuserve/data/router.tsv, bit for bit.

scripts/train_router            rewrite it
scripts/train_router --check    exit 1 if it is not what the corpus gives

Trains on the corpus in scripts/router_corpus, by source, without its check set.
"""

import argparse
import hashlib
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuserve.routing.agents import scene_terms
from gpuserve.routing.lexicon import Lexicon
from gpuserve.routing.model import TABLE, Model, Observed, observe
from gpuserve.routing.tokens import seen_in
from gpuserve.routing.turns import Turns
from scripts.router_fit import fitted, margins, platt
from scripts.router_rows import Row, rows_of, training_files
from scripts.router_space import (
    LEXICON,
    LEXICON_FILES,
    Space,
    heaviest,
    lexicon_entries,
    model_of,
    read_lexicon,
    space_of,
    written,
)

OUT = Path(__file__).resolve().parent.parent / "gpuserve" / TABLE
ABOUT = (
    "What the router's classifier goes by: docs/router-classifier.md says how it is used and made.",
    "Made by scripts/train_router; do not edit. Log-odds in hundredths, above zero for code.",
    "Inputs: {digest}",
)
# All four from cross-validation by source, where they are flat: half or double changes little.
COST = 0.3
LEAST_TEXTS = 3
KEPT = 12_000  # words and pairs; the rest have weights near zero
FOLDS = 5
# A source with more rows than this counts as the square root says: it must not become the task.
_SOURCE_ROWS = 500
_MOST_WEIGHT = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What training needs of the rows: what each shows, its label and where it comes from."""

    observed: Sequence[Observed]
    code: Sequence[bool]
    sources: Sequence[str]
    langs: Sequence[str]

    def part(self, chosen: Sequence[int]) -> "Sample":
        """Return the sample of the *chosen* rows."""
        return Sample(
            observed=[self.observed[i] for i in chosen],
            code=[self.code[i] for i in chosen],
            sources=[self.sources[i] for i in chosen],
            langs=[self.langs[i] for i in chosen],
        )


def sample_of(rows: Sequence[Row], lexicon: Lexicon) -> Sample:
    """Return the sample of *rows* with a user turn that stands for itself.

    Turns inside a conversation or a coding agent's are left out: their label is not theirs.
    """
    alone = [(row, turns) for row in rows if stands_alone(turns := row.turns)]
    return Sample(
        observed=[observe(seen_in(turns.last), lexicon) for _, turns in alone],
        code=[row.code for row, _ in alone],
        sources=[row.source for row, _ in alone],
        langs=[row.lang for row, _ in alone],
    )


def stands_alone(turns: Turns) -> bool:
    """Whether the last turn is all that there is to go by."""
    return not turns.earlier and not scene_terms(turns.system, turns.tools)[1]


def balance(sample: Sample) -> list[float]:
    """Return each row's weight: large sources damped, both labels of a language made equal.

    Without the second, Russian text of which most is code teaches that Cyrillic is code.
    """
    rows_by_source = Counter(sample.sources)
    damped = {s: (_SOURCE_ROWS / max(n, _SOURCE_ROWS)) ** 0.5 for s, n in rows_by_source.items()}
    weights = [damped[source] for source in sample.sources]
    sums: defaultdict[tuple[str, bool], float] = defaultdict(float)
    for weight, lang, code in zip(weights, sample.langs, sample.code, strict=True):
        sums[lang, code] += weight
    factors = {}
    for lang, code in sums:
        own, other = sums[lang, code], sums.get((lang, not code), 0.0)
        aim = (own + other) / 2 if other else own
        factors[lang, code] = min(_MOST_WEIGHT, aim / own)
    keys = zip(sample.langs, sample.code, strict=True)
    return [weight * factors[key] for weight, key in zip(weights, keys, strict=True)]


def fit(sample: Sample, lexicon: Lexicon) -> tuple[Space, list[float]]:
    """Return the space of the features that are kept, and their weights."""
    costs = [COST * weight for weight in balance(sample)]
    space = space_of(sample.observed, sample.sources, lexicon, LEAST_TEXTS)
    examples = [space.example(one) for one in sample.observed]
    weights = fitted(examples, sample.code, costs, len(space.numbers))
    space = heaviest(space, weights, KEPT)
    examples = [space.example(one) for one in sample.observed]
    return space, fitted(examples, sample.code, costs, len(space.numbers))


def folds_of(sources: Sequence[str], count: int = FOLDS) -> list[int]:
    """Return the fold of each row: a source is in one fold, and folds have much the same size."""
    sizes = [0] * count
    fold: dict[str, int] = {}
    for source, rows in sorted(Counter(sources).items(), key=lambda item: (-item[1], item[0])):
        fold[source] = sizes.index(min(sizes))
        sizes[fold[source]] += rows
    return [fold[source] for source in sources]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """What the sources outside a fold teach, and the margins that it gives the rows inside."""

    space: Space
    weights: Sequence[float]
    rows: Sequence[int]
    margins: Sequence[float]


def held_out(sample: Sample, lexicon: Lexicon, folds: Sequence[int]) -> list[Fold]:
    """Return each fold with the weights that its own sources had no part in."""
    found = []
    for fold in sorted(set(folds)):
        own = [i for i, f in enumerate(folds) if f == fold]
        space, weights = fit(sample.part([i for i, f in enumerate(folds) if f != fold]), lexicon)
        scores = margins([space.example(sample.observed[i]) for i in own], weights)
        found.append(Fold(space=space, weights=weights, rows=own, margins=scores))
    return found


def calibrated(sample: Sample, folds: Sequence[Fold]) -> tuple[float, float]:
    """Return slope and offset that make probabilities of the margins of *folds*."""
    rows = [i for fold in folds for i in fold.rows]
    scores = [score for fold in folds for score in fold.margins]
    weights = balance(sample)
    return platt(scores, [sample.code[i] for i in rows], [weights[i] for i in rows])


def trained(sample: Sample, lexicon: Lexicon) -> Model:
    """Return the model of *sample*, its probabilities from what was held out by source."""
    slope, offset = calibrated(sample, held_out(sample, lexicon, folds_of(sample.sources)))
    space, weights = fit(sample, lexicon)
    return model_of(space, weights, slope, offset, lexicon)


def inputs_digest() -> str:
    """Return the SHA-256 of all that the table is made from: the corpus and the lexicon."""
    digest = hashlib.sha256()
    for path in (*training_files(), *(LEXICON / name for name in LEXICON_FILES)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def main() -> int:
    """Train, and write or compare the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    asked = parser.parse_args()
    began = time.monotonic()
    lexicon = read_lexicon()
    sample = sample_of(rows_of(training_files()), lexicon)
    print(f"{len(sample.code)} rows of {len(set(sample.sources))} sources", file=sys.stderr)
    about = [line.format(digest=inputs_digest()) for line in ABOUT]
    table = written(trained(sample, lexicon), lexicon_entries(), about)
    took = time.monotonic() - began
    print(f"{len(table.encode()):,} bytes after {took:.0f} s", file=sys.stderr)
    if asked.check:
        same = OUT.read_text(encoding="utf-8") == table
        print(
            f"{OUT.name} is {'current' if same else 'NOT what the corpus gives'}", file=sys.stderr
        )
        return int(not same)
    OUT.write_text(table, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
