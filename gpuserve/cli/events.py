"""Print what gpuserve decided, when and why. It works as well when the instance is gone.

`gpuserve events coder --since 03:00` says why `coder` was restarted in the night.
"""

import argparse
import sys
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from gpuserve.cli.target import run_dir_of
from gpuserve.errors import ExitStatus, NotRunning, UsageError
from gpuserve.lifecycle.audit import Entry, entry_of, in_words
from gpuserve.machine import auditlog, statedir
from gpuserve.machine.control import Control, ControllerSilent, find_instance
from gpuserve.rundir import RunDir

LOOK_S = 0.2
SHOWN = 50
# For decisions that need no sentence of their own.
_CAUSES = {
    "gate": "its turn, and the memory is free",
    "healthy": "it says that it is healthy",
    "asked": "ended as asked",
    "profile": "the profile wants it",
    "adoption": "found running by a new controller",
}
_UNITS_S = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("model", metavar="MODEL", nargs="?", help="only those about this model")
    parser.add_argument("-f", "--follow", action="store_true", help="go on as more happens")
    parser.add_argument(
        "-n",
        "--lines",
        metavar="N",
        type=int,
        help=f"the last N (default {SHOWN}, with --since all)",
    )
    parser.add_argument(
        "--since",
        metavar="WHEN",
        help="only later ones: 30m, 2h, 1d ago, or a local time: 03:00, 2026-01-31 03:00",
    )
    parser.add_argument("--json", action="store_true", help="print the lines of JSON as they are")


def run(args: argparse.Namespace) -> int:
    """Print the last decisions; with `-f` go on until interrupted or the instance ends."""
    if args.lines is not None and args.lines < 0:
        raise UsageError("-n wants a number of lines, 0 or more")
    since_s = since(args.since, datetime.now().astimezone()) if args.since else None
    run_dir = run_dir_of(args)
    path = statedir.find(run_dir) / statedir.EVENTS
    model = _canonical(run_dir, args.model)

    def wanted(entry: Entry) -> bool:
        return (model is None or entry.model == model) and (
            since_s is None or entry.at_unix_s >= since_s
        )

    _refuse_unknown(run_dir, path, model)
    show = _show_json if args.json else _show
    limit = args.lines if args.lines is not None else (None if args.since else SHOWN)
    offset = path.stat().st_size if path.exists() else 0
    chosen = (pair for pair in _entries(auditlog.read(path)) if wanted(pair[1]))
    for line, entry in deque(chosen, maxlen=limit):
        show(line, entry)
    sys.stdout.flush()
    if args.follow:
        for line, entry in _entries(_following(run_dir, path, offset)):
            if wanted(entry):
                show(line, entry)
                sys.stdout.flush()
    return ExitStatus.DONE


def since(text: str, now: datetime) -> float:
    """Return the moment that *text* means, in Unix seconds; raises UsageError.

    A time of day without a date is the last one of that name before *now*.
    """
    number, unit = text.rstrip("abcdefghijklmnopqrstuvwxyz"), text.lstrip("0123456789. ")
    if unit in _UNITS_S and number.strip():
        try:
            return now.timestamp() - float(number) * _UNITS_S[unit]
        except ValueError:
            pass
    for form in ("%H:%M", "%H:%M:%S"):
        try:
            clock = datetime.strptime(text, form).time()  # noqa: DTZ007 - a time of day only
        except ValueError:
            continue
        moment = datetime.combine(now.date(), clock).astimezone()
        return (moment if moment <= now else moment - timedelta(days=1)).timestamp()
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        raise UsageError(
            f'cannot tell when "{text}" is', hint="for example 2h, 30m, 03:00, 2026-01-31 03:00"
        ) from None


def _entries(lines: Iterator[bytes]) -> Iterator[tuple[bytes, Entry]]:
    for line in lines:
        entry = entry_of(line)
        if entry is not None:
            yield line, entry


def _show_json(line: bytes, _entry: Entry) -> None:
    sys.stdout.buffer.write(line)


def _show(_line: bytes, entry: Entry) -> None:
    when = datetime.fromtimestamp(entry.at_unix_s).astimezone()
    words = [f"{when:%Y-%m-%d %H:%M:%S}", f"{entry.model or '-':<10}", f"{entry.what:<24}"]
    figures = in_words(entry.figures)
    why = entry.why or _CAUSES.get(entry.cause or "", entry.cause) or ""
    words.append(f"{why}  [{figures}]" if figures else why)
    print("  ".join(words).rstrip())


def _canonical(run_dir: RunDir, model: str | None) -> str | None:
    """Return the name that an alias stands for, where the instance can say so."""
    if model is not None and find_instance(run_dir) is not None:
        try:
            for row in Control(run_dir).status()["models"]:
                if model in (row["name"], *row["aliases"]):
                    return str(row["name"])
        except ControllerSilent:
            pass
    return model


def _refuse_unknown(run_dir: RunDir, path: Path, model: str | None) -> None:
    """Raise NotRunning where there are no events at all, UsageError where none is of *model*."""
    found = {entry.model for _, entry in _entries(auditlog.read(path))}
    if not found and find_instance(run_dir) is None:
        raise NotRunning(
            f"nothing runs in {run_dir.path}, and nothing has left events in {path.parent}"
        )
    if model is not None and model not in found:
        known = sorted(name for name in found if name)
        raise UsageError(
            f'there are no events of "{model}" in {path}',
            hint=f"models: {', '.join(known)}" if known else None,
        )


def _following(run_dir: RunDir, path: Path, offset: int) -> Iterator[bytes]:
    """Yield what is appended to *path*, over rotations, until the instance ends."""
    rest = b""
    inode = path.stat().st_ino if path.exists() else 0
    while True:
        data = b""
        if path.exists():
            with path.open("rb") as file:
                found = path.stat()
                if found.st_ino != inode or found.st_size < offset:
                    inode, offset = found.st_ino, 0
                file.seek(offset)
                data = file.read()
        offset += len(data)
        *lines, rest = (rest + data).split(b"\n")
        yield from (line + b"\n" for line in lines)
        if not data:
            if find_instance(run_dir) is None:
                return
            time.sleep(LOOK_S)
