"""Fetch the weights that a profile names and that are not here yet.

Stopped or cut off, it goes on with what is missing when it is called again.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from gpuserve.errors import ExitStatus, GpuserveError, UsageError
from gpuserve.machine.hub import Progress, Wanted, fetch
from gpuserve.machine.weights import settings_here, weights_here
from gpuserve.profile.load import load
from gpuserve.profile.spec import ModelSpec
from gpuserve.units import MIB, gib

_LINE_EVERY_S = 10.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `gpuserve pull`."""
    parser.add_argument("profile", metavar="PROFILE", type=Path)
    parser.add_argument("--model", metavar="NAME", help="only this model of the profile")
    parser.add_argument(
        "--json", action="store_true", help="progress as lines of JSON on standard output"
    )


def run(args: argparse.Namespace) -> int:
    """Fetch; return 0 when everything is here, 69 when something cannot be, 75 to try later."""
    profile = load(args.profile)
    models = profile.models
    if args.model is not None:
        chosen = profile.model(args.model)
        if chosen is None:
            known = ", ".join(model.name for model in models)
            raise UsageError(f'the profile has no model "{args.model}"', hint=f"known: {known}")
        models = (chosen,)
    # `down` during a fetch ends this process: what Ctrl-C cleans up, SIGTERM does too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    status = ExitStatus.DONE
    done: set[Wanted] = set()
    try:
        for model in models:
            for wanted in _wanted(model):
                if wanted not in done:
                    done.add(wanted)
                    status = max(status, _bring(model, wanted, as_json=args.json), key=_graver)
    except KeyboardInterrupt:
        print("interrupted; what is complete stays", file=sys.stderr, flush=True)
        # Not sys.exit: the interpreter would wait for the threads that download.
        os._exit(ExitStatus.INTERRUPTED)
    return status


def _wanted(model: ModelSpec) -> Iterator[Wanted]:
    variables = dict(model.env)
    common: dict[str, Any] = {
        "token": variables.get("HF_TOKEN"),
        "endpoint": variables.get("HF_ENDPOINT"),
    }
    yield Wanted(
        repository=model.model,
        revision=model.revision,
        load_format=model.load_format,
        **common,
    )
    if model.tokenizer is not None and not model.tokenizer.startswith("/"):
        yield Wanted(repository=model.tokenizer, weights=False, **common)


def _bring(model: ModelSpec, wanted: Wanted, *, as_json: bool) -> ExitStatus:
    with _teller(model.name, wanted.repository, as_json=as_json) as teller:
        if _is_here(wanted):
            teller.end("complete", f"{wanted.repository} is here")
            return ExitStatus.DONE
        try:
            # A directory is the operator's, and `check` says what it lacks; a URL
            # (s3://bucket/model) vLLM reads by itself.
            if wanted.repository.startswith("/") or "://" in wanted.repository:
                teller.end("complete", f"{wanted.repository} is not on the hub: nothing to fetch")
                return ExitStatus.DONE
            fetch(wanted, teller.progress)
        except GpuserveError as error:
            teller.end("failed", error.message, error.hint)
            return error.exit_status
        teller.end("complete", f"{wanted.repository} is here")
        return ExitStatus.DONE


def _is_here(wanted: Wanted) -> bool:
    if wanted.weights and wanted.load_format != "dummy":
        return weights_here(wanted.repository, wanted.revision)
    return settings_here(wanted.repository, wanted.revision)


def _graver(status: ExitStatus) -> int:
    # What cannot be had outweighs what may come later.
    return {ExitStatus.DONE: 0, ExitStatus.TEMPFAIL: 1}.get(status, 2)


class _Teller(Protocol):
    def progress(self, progress: Progress) -> None: ...

    def end(self, state: str, message: str, hint: str | None = None) -> None: ...


@contextmanager
def _teller(name: str, repository: str, *, as_json: bool) -> Iterator[_Teller]:
    if as_json:
        yield _JsonLines(name, repository)
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bars

        with Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        ) as bars:
            yield _Bar(bars, repository)
    else:
        yield _PlainLines(repository)


class _JsonLines:
    """One object per line on standard output, for programs."""

    def __init__(self, name: str, repository: str) -> None:
        self._who = {"model": name, "repository": repository}
        self._last = Progress(0, 0)

    def progress(self, progress: Progress) -> None:
        self._last = progress
        self._say(state="fetching")

    def end(self, state: str, message: str, hint: str | None = None) -> None:
        self._say(state=state, message=message if hint is None else f"{message} ({hint})")

    def _say(self, **words: str) -> None:
        sizes = {"done_bytes": self._last.done_bytes, "total_bytes": self._last.total_bytes}
        print(json.dumps({**self._who, **words, **sizes}), flush=True)


class _Bar:
    """A bar on a terminal."""

    def __init__(self, bars: Any, repository: str) -> None:
        self._bars = bars
        self._task = bars.add_task(repository, total=None, rate="")

    def progress(self, progress: Progress) -> None:
        self._bars.update(self._task, completed=progress.done_bytes, total=progress.total_bytes)
        # rich's own column counts in units of 1000.
        speed = self._bars.tasks[self._task].speed
        if speed:
            self._bars.update(self._task, rate=f"{speed / MIB:.0f} MiB/s")

    def end(self, state: str, message: str, hint: str | None = None) -> None:
        self._bars.stop()
        _say_end(state, message, hint)


class _PlainLines:
    """A line now and then, for logs and pipes."""

    def __init__(self, repository: str) -> None:
        self._repository = repository
        self._began: tuple[float, int] | None = None
        self._said_at = 0.0

    def progress(self, progress: Progress) -> None:
        now = time.monotonic()
        if self._began is None:
            self._began = (now, progress.done_bytes)
            missing = progress.total_bytes - progress.done_bytes
            print(f"{self._repository}: {gib(missing)} to fetch", file=sys.stderr, flush=True)
            self._said_at = now
        elif now - self._said_at >= _LINE_EVERY_S:
            began_at, began_bytes = self._began
            rate = (progress.done_bytes - began_bytes) / (now - began_at)
            print(f"{self._repository}: {_how_far(progress, rate)}", file=sys.stderr, flush=True)
            self._said_at = now

    def end(self, state: str, message: str, hint: str | None = None) -> None:
        _say_end(state, message, hint)


def _how_far(progress: Progress, bytes_per_s: float) -> str:
    text = f"{gib(progress.done_bytes)} of {gib(progress.total_bytes)}"
    if bytes_per_s > 0:
        left_s = round((progress.total_bytes - progress.done_bytes) / bytes_per_s)
        text += f", {bytes_per_s / MIB:.0f} MiB/s, {left_s // 60}:{left_s % 60:02} left"
    return text


def _say_end(state: str, message: str, hint: str | None) -> None:
    print(f"error: {message}" if state == "failed" else message, file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
