"""Writes the engine's transition table, printed from the code, into DESIGN.md.

python -m scripts.transitions            rewrite it
python -m scripts.transitions --check    exit 1 if it is not current
"""

import sys
from pathlib import Path

from gpuserve.lifecycle.table import markdown

DESIGN = Path(__file__).resolve().parent.parent / "DESIGN.md"
BEGIN, END = "<!-- transitions -->\n", "<!-- end of transitions -->"


def with_table(text: str) -> str:
    """Return *text* with what stands between the markers replaced by the table of the code."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"DESIGN.md needs the lines {BEGIN.strip()} and {END}")
    return f"{head}{begin}\n{markdown()}\n{end}{tail}"


def main() -> int:
    text = DESIGN.read_text(encoding="utf-8")
    current = with_table(text)
    if "--check" in sys.argv[1:]:
        if text != current:
            print("DESIGN.md is not current: run python -m scripts.transitions", file=sys.stderr)
        return int(text != current)
    DESIGN.write_text(current, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
