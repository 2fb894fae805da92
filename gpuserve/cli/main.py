"""Finds the command, runs it, and turns what went wrong into a message and an exit status.

A command's module has `configure(parser)` and `run(args) -> int`; it is imported only when its
command is called, so that `--help` costs nothing. This is the only place that prints errors.
"""

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from gpuserve import __version__
from gpuserve.errors import ExitStatus, GpuserveError, Problem, ProfileError, UsageError

COMMANDS = {
    "check": "prove that a profile fits this machine, and show the arithmetic",
    "plan": "which cards, how many and which quantization a model needs",
    "up": "start the models of a profile and serve them behind one endpoint",
    "wait": "wait until every model that should run is ready",
    "status": "what runs, since when, and why not",
    "logs": "an engine's own output",
    "events": "what gpuserve decided, when and why",
    "reload": "put a changed profile in force, touching only what it changes",
    "restart": "drain a model, stop its engine and start it again",
    "stop": "drain a model and stop its engine; it stays stopped",
    "start": "start a model that was stopped or has Failed",
    "drain": "stop sending requests to a model and wait for those in flight",
    "down": "drain and stop everything",
    "route": "explain where a prompt goes and why",
    "pin": "write the measured KV cache of running models into the profile",
    "pull": "fetch the weights that a profile names",
}
_WIDTH = max(map(len, COMMANDS))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status; never raises but for real faults of ours."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(words)
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    except BrokenPipeError:
        # The reader left, as `head` does; nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.DONE
    except ProfileError as error:
        for problem in error.problems:
            say_problem(problem)
        return error.exit_status
    except GpuserveError as error:
        say(f"error: {error.message}")
        if error.hint:
            say(f"hint: {error.hint}")
        return error.exit_status
    except OSError as error:
        # What a command expects to fail it has caught: this is a full disk, a closed stdout.
        say(f"error: {error}")
        return ExitStatus.UNAVAILABLE
    except Exception as error:  # noqa: BLE001 - whatever it is, it is ours, and people get a report
        return _report_crash(words, error)


def say(line: str) -> None:
    """Print *line* to stderr: talk, not data."""
    print(line, file=sys.stderr)


def say_problem(problem: Problem) -> None:
    """Print one problem as `file:line: where: message`, its hint below."""
    place = problem.file or ""
    if problem.line is not None:
        place += f":{problem.line}"
    kind = "warning" if problem.warning else "error"
    parts = [part for part in (place, kind, problem.where, problem.message) if part]
    say(": ".join(parts))
    if problem.hint:
        say(f"  hint: {problem.hint}")


def _run(words: list[str]) -> int:
    parser = _Parser(
        prog="gpuserve",
        description="Several vLLM engines on one machine, behind one OpenAI-compatible endpoint.",
        epilog="commands:\n"
        + "\n".join(f"  {name:{_WIDTH}}  {text}" for name, text in COMMANDS.items())
        + "\n\n`gpuserve COMMAND --help` says more about one of them.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gpuserve {__version__}")
    parser.add_argument(
        "--run-dir",
        metavar="DIR",
        type=Path,
        help="where the instance keeps its sockets and state "
        "(default: $RUNTIME_DIRECTORY, /run/gpuserve for root, $XDG_RUNTIME_DIR/gpuserve, "
        "~/.local/state/gpuserve)",
    )
    parser.add_argument("command", metavar="COMMAND", nargs="?")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    if args.command is None:
        parser.print_help(sys.stderr)
        return ExitStatus.USAGE
    if args.command not in COMMANDS:
        near = difflib.get_close_matches(args.command, COMMANDS, n=1, cutoff=0.7)
        raise UsageError(
            f'no command "{args.command}"',
            hint=f"did you mean `gpuserve {near[0]}`?" if near else "`gpuserve --help` lists them",
        )
    module = _module(args.command)
    command = _Parser(prog=f"gpuserve {args.command}", description=_description(module))
    command.add_argument("--run-dir", metavar="DIR", type=Path, default=args.run_dir)
    module.configure(command)
    status: int = module.run(command.parse_args(args.rest))
    if sys.stdout is not None:  # None where it was closed
        sys.stdout.flush()
    return status


class _Parser(argparse.ArgumentParser):
    """argparse, but its errors look like ours."""

    def error(self, message: str) -> NoReturn:
        say(f"error: {message}")
        say(f"hint: `{self.prog} --help` lists what there is")
        raise SystemExit(ExitStatus.USAGE)


def _module(command: str) -> ModuleType:
    return importlib.import_module(f"gpuserve.cli.{command}")


def _description(module: ModuleType) -> str:
    return (module.__doc__ or "").strip()


def _report_crash(words: Sequence[str], error: Exception) -> int:
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile(
        "w", prefix="gpuserve-crash-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.write(f"gpuserve {__version__}, python {sys.version}\n{words}\n\n")
        file.write("".join(traceback.format_exception(error)))
    say(f"error: internal error: {type(error).__name__}: {error}")
    say(f"hint: please report it with {file.name}")
    return ExitStatus.SOFTWARE
