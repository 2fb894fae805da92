"""Labelled prompts for the router's classifier: reading them, and telling their sources apart.

A row is a line of JSON with `messages`, `label` (`code`, `general` or `borderline`), and where
known `lang`, `source`, `licence` and `kind`. Borderline rows are neither trained on nor scored.
"""

import gzip
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuserve.routing.turns import Turns, turns_of

CORPUS = Path(__file__).resolve().parent / "router_corpus"
# Rows made from others by a template keep the source of those: they share its sentences.
_MADE_FROM = re.compile(r"^(?:templated-multiturn|templated|wrapped):")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One labelled prompt. `source` is the repository or the group that it came from."""

    body: dict[str, Any]
    code: bool
    lang: str
    source: str
    licence: str
    kind: str

    @property
    def turns(self) -> Turns:
        """The turns as the router reads them."""
        return turns_of(self.body)

    @property
    def text(self) -> str:
        """All that was said, for looking for a word in it."""
        return json.dumps(self.body, ensure_ascii=False)


def source_of(name: str) -> str:
    """Return the part of a row's `source` that rows of one origin share.

    `templated:owner/repo:path` and `owner/repo@commit` are of `owner/repo`; `own:group` stays.
    """
    bare = _MADE_FROM.sub("", name)
    return bare if bare.startswith("own:") else re.split("[:@]", bare)[0]


def rows_of(paths: Iterable[Path]) -> list[Row]:
    """Return the scored rows of *paths*, in order. Raises ValueError that names a bad line."""
    return [row for path in paths for row in _rows(path)]


def training_files() -> list[Path]:
    """Return the files that the shipped weights come from: the corpus without its check set."""
    found = sorted([*CORPUS.glob("*.jsonl"), *CORPUS.glob("*.jsonl.gz")])
    return [path for path in found if path.name != "check.jsonl"]


def _rows(path: Path) -> Iterator[Row]:
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            label, messages = row["label"], row["messages"]
        except (ValueError, KeyError, TypeError) as wrong:
            raise ValueError(f"{path}:{number}: no row with messages and label: {wrong}") from None
        if label not in ("code", "general"):
            continue
        body = {"messages": messages}
        if row.get("tools"):
            body["tools"] = row["tools"]
        yield Row(
            body=body,
            code=label == "code",
            lang=row.get("lang", "?"),
            source=source_of(row.get("source", path.stem)),
            licence=row.get("licence", "?"),
            kind=row.get("kind", "?"),
        )
