#!/usr/bin/env python3
"""Reads made-up bodies and classifies conversations in compiled code and in Python; compares.

    python -m scripts.fuzz_compiled                 two hundred thousand, some minutes; needs gcc
    python -m scripts.fuzz_compiled --count 1000 --seed 7

The compiled part is built anew with the compiler's checks of addresses and of undefined behaviour
(-fsanitize), so that a read beyond an end is found as well as a wrong sum. What must hold: both say
the same to the last bit, or the compiled part leaves the text, or the body, to Python.

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

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "gpuserve/routing/native/module.c"
_MODULE = "gpuserve.routing._compiled"
_BUILT = "GPUSERVE_FUZZ_BUILT"


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
    # Not before: it imports what has just been put in the place of the installed build.
    from gpuserve.routing.classify import scanned
    from gpuserve.routing.request import plain_need
    from scripts.odd_requests import PATH, Bodies, Maker, difference, misread

    random, maker, bodies = Random(args.seed), Maker(), Bodies()
    began = told = time.monotonic()
    wrong = left = parsed = 0
    for count in range(1, args.count + 1):
        turns, raw = maker.turns(random), bodies.body(random)
        left += scanned(turns) is None
        parsed += plain_need(PATH, raw) is None
        for why in (difference(turns), misread(raw)):
            if why is not None:
                wrong += 1
                print(why, file=sys.stderr)
        if wrong >= 10:
            break
        if (now := time.monotonic()) - told > 10:
            told = now
            print(f"{count:,} of {args.count:,}", file=sys.stderr)
    seconds = time.monotonic() - began
    print(
        f"{count:,} conversations and bodies in {seconds:.0f} s: {wrong} differ, {left:,} "
        f"conversations and {parsed:,} bodies left to Python"
    )
    return 1 if wrong or count in (left, parsed) else 0


if __name__ == "__main__":
    sys.exit(main())
