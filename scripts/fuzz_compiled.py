#!/usr/bin/env python3
"""Classifies made-up conversations in compiled code and in Python, and compares.

    python -m scripts.fuzz_compiled                 two hundred thousand, some minutes; needs gcc
    python -m scripts.fuzz_compiled --count 1000 --seed 7

The compiled part is built anew with the compiler's checks of addresses and of undefined behaviour
(-fsanitize), so that a read beyond an end is found as well as a wrong sum. What must hold: both say
the same to the last bit, or the compiled part leaves the text to Python.

Exit status 1: there was a difference, or an error of memory; it is printed.
"""

import argparse
import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from random import Random

from gpuserve.routing import agents, marks
from gpuserve.routing.lexicon import PREFIXES
from gpuserve.routing.model import shipped
from gpuserve.routing.turns import Turns

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "gpuserve/routing/native/module.c"
_MODULE = "gpuserve.routing._compiled"
_BUILT = "GPUSERVE_FUZZ_BUILT"
# Characters at the edges of what a word, a space, a script or an encoding is.
_ODD = (
    "\x00\x1f\x7f\x80\x85\xa0ªµ×ßÀÖØÞß÷øÿĀİıŉſɏɐ\u0300\u036f\u0370\u037aΣςЀ\u0590אا\u06ff\u0700"
    "ก\u0dff\u0e00\u1680\u180e\u1e00ḁẞỿἀ\u2000\u200a\u200b\u2028\u202f\u205f\u3000〆世한\ue000\ufb01"
    "ﬀ\ufeff\uffff𝒜𐐀😀\U0010ffff\ud800\udfff'’‘“”–—…"
)
_LETTERS = 'abzAZ09_$#@+.-/([{`"\\;:<>=~ \n\t'


class Maker:
    """Makes conversations out of what the table knows and out of what it does not."""

    def __init__(self) -> None:
        model = shipped()
        lexicon = model.lexicon
        self._known = (
            *sorted({*model.words, *lexicon.words, *lexicon.stems, *lexicon.parts}),
            *sorted(f"{a} {b}" for a, b in (*model.pairs, *lexicon.pairs)),
        )
        self._signs = (
            *sorted(agents.SIGNS),
            *(term for word in sorted(agents.SIGNS) for term, _ in agents.signs_of(word)),
            *(text for text, _ in agents.OTHER_SCRIPTS),
        )
        self._marks = (
            *(text for _, text, _ in (*marks.FIXED, *marks.OF_LINES)),
            *(text for text, _ in marks.OF_CAPITALS),
            *("```", "```python\n", "```TEXT\n", "``` c++\n", "```питон\n", "`x`", "KeyError"),
            *("яError", "fooException", " /etc/x", "я/я", " /я", " --all", "getName", "a_b c_d"),
            *sorted({*lexicon.make, *lexicon.thing}),
        )
        self._prefixes = PREFIXES

    def text(self, random: Random, most: int) -> str:
        """Return a text of up to *most* pieces."""
        pieces: list[str] = []
        for _ in range(random.randrange(most + 1)):
            kind = random.random()
            if kind < 0.55:
                piece = random.choice(self._known)
                if kind < 0.05:
                    piece = random.choice(self._prefixes) + piece
                elif kind < 0.1:
                    piece += random.choice(self._known)
            elif kind < 0.65:
                piece = random.choice(self._signs)
            elif kind < 0.75:
                piece = random.choice(self._marks)
            elif kind < 0.9:
                piece = "".join(random.choices(_LETTERS, k=random.randrange(1, 9)))
            else:
                piece = "".join(random.choices(_ODD, k=random.randrange(1, 5)))
            if random.random() < 0.1:
                piece = piece.upper() if random.random() < 0.5 else piece.title()
            pieces += [piece, random.choice(("", " ", " ", " ", "\n", ". ", "、"))]
        return "".join(pieces)

    def turns(self, random: Random) -> Turns:
        """Return a conversation."""
        long = random.random()
        most = 300 if long < 0.05 else 60 if long < 0.3 else 12
        earlier = tuple(self.text(random, 20)[:300] for _ in range(random.choice((0, 0, 1, 2, 4))))
        return Turns(
            last=self.text(random, most),
            earlier=earlier,
            reply=self.text(random, 15)[:150] if random.random() < 0.5 else "",
            system=self.text(random, most) if random.random() < 0.5 else "",
            tools=("bash",) if random.random() < 0.1 else ("book_flight",),
        )


def difference(turns: Turns) -> str | None:
    """Return how the two verdicts on *turns* differ, None where they do not."""
    from gpuserve.routing.classify import scanned, weighed

    found, wanted = scanned(turns), weighed(turns, shipped())
    if found is None or found == wanted:
        return None
    return f"{turns!r}\n  compiled {found}\n  Python   {wanted}"


def build(directory: Path) -> Path:
    """Build the compiled part with the compiler's checks below *directory*."""
    built = directory / "_compiled.abi3.so"
    subprocess.run(
        [
            *("gcc", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
            *("-ffp-contract=off", "-shared", "-fPIC", f"-I{sysconfig.get_paths()['include']}"),
            *(str(SOURCE), "-o", str(built)),
        ],
        check=True,
    )
    return built


def _again_with_checks(built: Path) -> int:
    """Run this command again, with the checked build in place of the other."""
    library = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
    env = {
        **os.environ,
        _BUILT: str(built),
        "LD_PRELOAD": library,
        # Python's own allocator would hide the ends of strings.
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=0",
    }
    command = [sys.executable, "-m", "scripts.fuzz_compiled", *sys.argv[1:]]
    return subprocess.run(command, env=env, check=False, cwd=ROOT).returncode


def _load(built: str) -> None:
    loader = importlib.machinery.ExtensionFileLoader(_MODULE, built)
    spec = importlib.util.spec_from_loader(_MODULE, loader)
    if spec is None:
        raise ImportError(built)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    sys.modules[_MODULE] = module


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=200_000, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="the same seed, the same texts")
    args = parser.parse_args()
    if _BUILT not in os.environ:
        with tempfile.TemporaryDirectory() as directory:
            return _again_with_checks(build(Path(directory)))
    _load(os.environ[_BUILT])
    from gpuserve.routing import classify

    random, maker = Random(args.seed), Maker()
    began = told = time.monotonic()
    wrong = left = 0
    for count in range(1, args.count + 1):
        turns = maker.turns(random)
        left += classify.scanned(turns) is None
        why = difference(turns)
        if why is not None:
            wrong += 1
            print(why, file=sys.stderr)
            if wrong == 10:
                break
        if (now := time.monotonic()) - told > 10:
            told = now
            print(f"{count:,} of {args.count:,}", file=sys.stderr)
    seconds = time.monotonic() - began
    print(f"{count:,} conversations in {seconds:.0f} s: {wrong} differ, {left:,} left to Python")
    return 1 if wrong or left == count else 0


if __name__ == "__main__":
    sys.exit(main())
