"""The prompts that the router's classifier learns from are well formed and may be shipped."""

import gzip
import json
from collections import Counter
from pathlib import Path

CORPUS = Path(__file__).parents[2] / "scripts" / "router_corpus"
FIELDS = {"id", "messages", "label", "lang", "source", "licence", "kind"}
PERMISSIVE = {
    *("Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CC-BY-3.0", "CC-BY-4.0"),
}
ROLES = {"system", "user", "assistant", "tool"}
MAX_TOTAL_BYTES = 6_000_000  # the repository is cloned by people who never train a classifier


def rows() -> dict[str, list[dict[str, object]]]:
    """The rows of every file of the corpus by the file's name."""
    paths = sorted([*CORPUS.glob("*.jsonl"), *CORPUS.glob("*.jsonl.gz")])
    return {path.name: [json.loads(line) for line in lines_of(path)] for path in paths}


def lines_of(path: Path) -> list[str]:
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    return text.rstrip("\n").split("\n")


def conversation(row: dict[str, object]) -> str:
    return json.dumps(row["messages"], ensure_ascii=False).casefold()


def test_every_row_has_the_fields_a_known_label_and_a_permissive_licence() -> None:
    for name, found in rows().items():
        assert found, name
        for row in found:
            where = (name, row.get("id"))
            assert set(row) == FIELDS, where
            assert row["label"] in {"code", "general"}, where
            assert row["licence"] in PERMISSIVE, where
            texts = [row[field] for field in ("id", "lang", "source", "kind")]
            assert all(isinstance(text, str) and text for text in texts), where


def test_every_conversation_asks_something() -> None:
    for name, found in rows().items():
        for row in found:
            messages = row["messages"]
            assert isinstance(messages, list), (name, row["id"])
            assert {message["role"] for message in messages} <= ROLES, (name, row["id"])
            assert any(message["role"] == "user" and message["content"] for message in messages), (
                name,
                row["id"],
            )


def test_ids_and_conversations_are_unique_across_training_and_check_files() -> None:
    everything = [row for found in rows().values() for row in found]
    ids = Counter(row["id"] for row in everything)
    assert not [one for one, times in ids.items() if times > 1]
    conversations = Counter(conversation(row) for row in everything)
    assert not [one for one, times in conversations.items() if times > 1]


def test_the_check_set_shares_no_source_with_the_training_files() -> None:
    found = rows()
    check = {row["source"] for row in found.get("check.jsonl", [])}
    train = {row["source"] for name in found if name != "check.jsonl" for row in found[name]}
    assert not check & train


def test_the_corpus_stays_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.iterdir()) < MAX_TOTAL_BYTES
