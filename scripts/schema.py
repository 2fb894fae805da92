#!/usr/bin/env python3
"""Rewrite gpuserve/data/profile.schema.json from the code; `--check` only compares (exit 1)."""

import argparse
import sys

from gpuserve.profile.schema import SCHEMA_FILE, schema_text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if outdated")
    args = parser.parse_args()
    text = schema_text()
    if SCHEMA_FILE.exists() and SCHEMA_FILE.read_text(encoding="utf-8") == text:
        return 0
    if args.check:
        print(f"{SCHEMA_FILE} is outdated: run python -m scripts.schema", file=sys.stderr)
        return 1
    SCHEMA_FILE.parent.mkdir(exist_ok=True)
    SCHEMA_FILE.write_text(text, encoding="utf-8")
    print(f"wrote {SCHEMA_FILE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
