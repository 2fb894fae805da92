"""Prove that a profile fits this machine, and show the arithmetic.

Exit status: 0 it fits (also tight or risky, with a warning), 78 it does not fit or the profile
is invalid, 75 it fits but others hold the memory now, 69 the host lacks something.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from gpuserve.cli.main import say_problem
from gpuserve.errors import ExitStatus, UsageError
from gpuserve.memory.engine import resolve
from gpuserve.memory.explain import Term, explained
from gpuserve.prepare import Prepared, prepare
from gpuserve.render import Line, explain_lines, report_json, report_lines


def configure(parser: argparse.ArgumentParser) -> None:
    """Add what `check` takes."""
    parser.add_argument("profile", metavar="PROFILE", type=Path)
    hardware = parser.add_mutually_exclusive_group()
    hardware.add_argument(
        "--machine",
        metavar="FILE",
        type=Path,
        help="plan for the hardware that this TOML file describes, not for this machine",
    )
    hardware.add_argument(
        "--gpu",
        metavar="CARDS",
        help='plan for these cards, for example "NVIDIA L4:2"',
    )
    parser.add_argument(
        "--explain", metavar="MODEL", help="every term of one model, with its formula and source"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the report and return the exit status of its verdict."""
    prepared = prepare(
        args.profile,
        machine_file=args.machine,
        gpu=args.gpu,
        run_dir=args.run_dir,
        environment=os.environ,
    )
    for problem in prepared.problems:
        say_problem(problem)
    terms = () if args.explain is None else _explained(prepared, args.explain)
    if args.json:
        document = _document(prepared)
        if args.explain is not None:
            document["explain"] = {"model": args.explain, "terms": [asdict(t) for t in terms]}
        print(json.dumps(document, indent=2, ensure_ascii=False))
    elif args.explain is not None:
        print_lines(explain_lines(args.explain, terms))
    elif prepared.plan is not None:
        print_lines(report_lines(prepared.plan.report, title=str(args.profile)))
    return prepared.exit_status


def _explained(prepared: Prepared, name: str) -> tuple[Term, ...]:
    """Return the terms of the model *name*; none where its profile has no plan."""
    plan = prepared.plan
    if plan is None:
        return ()
    spec = plan.profile.model(name)
    if spec is None:
        known = ", ".join(model.name for model in plan.profile.models)
        raise UsageError(f'the profile has no model "{name}"', hint=f"models: {known}")
    grant = next((g for g in plan.report.grants if g.model == spec.name), None)
    if grant is None:
        return ()
    facts = prepared.facts[spec.name]
    engine = resolve(spec, facts, cpu=plan.report.device == "cpu")
    return explained(engine, facts, grant)


def _document(prepared: Prepared) -> dict[str, object]:
    plan = prepared.plan
    if plan is not None:
        return report_json(plan.report, plan.launches, prepared.problems)
    # Without a plan there was no hardware to plan for, or no profile that could be read.
    invalid = prepared.exit_status == ExitStatus.CONFIG
    return {
        "verdict": "invalid" if invalid else None,
        "gpus": [],
        "models": [],
        "problems": [asdict(problem) for problem in prepared.problems],
    }


def print_lines(lines: Iterable[Line]) -> None:
    """Print *lines*, in colour on a terminal that wants it."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        for line in lines:
            print(line.text)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for line in lines:
        console.print(Text(line.text, style=line.style), soft_wrap=True)
