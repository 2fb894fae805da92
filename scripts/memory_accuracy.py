"""Compares predictions with published start logs; scripts/memory_accuracy says how to call it."""

import argparse
import json
import sys
from pathlib import Path

from scripts.accuracy.page import page
from scripts.accuracy.report import REASONS, summary
from scripts.accuracy.startups import DATA, load


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/memory_accuracy", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=DATA / "startups.jsonl")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print one JSON object")
    how.add_argument("--write", type=Path, metavar="PAGE", help="write the page for people")
    arguments = parser.parse_args()
    try:
        rows = load(arguments.file)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    found = summary(rows)
    if arguments.json:
        print(json.dumps(found, indent=1))
    elif arguments.write is not None:
        more = load(DATA / "startups_more.jsonl")
        arguments.write.write_text(page(rows, more), encoding="utf-8")
        print(f"{arguments.write}: written", file=sys.stderr)
    else:
        print(page(rows, []))
    wrong = [v for v in found["verdicts"] if v["outcome"] != "started" and v["verdict"] == "fits"]
    unexplained = [
        miss["id"]
        for target in found["targets"]
        if target["share"] < target["wanted"]
        for miss in target["missed"]
        if miss["id"] not in REASONS
    ]
    return 1 if wrong or unexplained else 0


if __name__ == "__main__":
    raise SystemExit(main())
