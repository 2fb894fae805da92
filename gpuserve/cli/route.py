"""Explain where a prompt goes and why. No server is needed or asked.

Without --profile the routes are `code` and `general`, each with a model of that name. With
--jsonl one request body per line is read from stdin, {"id": …, "messages": […]}, and one JSON
object per line is printed; a line that is no request gets an object with "error", and the exit
status is 1 in the end.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, BinaryIO

from gpuserve.errors import ExitStatus, UsageError
from gpuserve.routing.body import BadBody, parse_object
from gpuserve.routing.explain import explain, supposed_table
from gpuserve.routing.table import RoutingTable


def configure(parser: argparse.ArgumentParser) -> None:
    """Add what `route` takes."""
    parser.add_argument("prompt", metavar="PROMPT", nargs="?", help="default, or -: read stdin")
    parser.add_argument("--profile", metavar="PROFILE", type=Path, help="the models of a profile")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--jsonl", action="store_true", help="request bodies in, decisions out")
    shape.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the decision, or one per line; exit status 1 where nobody would answer."""
    table = _table(args.profile)
    if args.jsonl:
        if args.prompt not in (None, "-"):
            raise UsageError("--jsonl reads request bodies from stdin, not from PROMPT")
        return _answer_lines(sys.stdin.buffer, table)
    prompt = args.prompt
    if prompt in (None, "-"):
        prompt = sys.stdin.buffer.read().decode("utf-8", "replace")
    # Arguments that are not UTF-8 arrive with surrogates, which cannot be printed.
    prompt = prompt.encode("utf-8", "replace").decode()
    decision = explain({"messages": [{"role": "user", "content": prompt}]}, table)
    if args.json:
        print(json.dumps(decision, ensure_ascii=False, indent=2))
    else:
        _print(decision)
    return ExitStatus.NO if "error" in decision else ExitStatus.DONE


def _table(profile: Path | None) -> RoutingTable:
    if profile is None:
        return supposed_table()
    from gpuserve.profile.load import load

    return supposed_table(load(profile))


def _answer_lines(lines: BinaryIO, table: RoutingTable) -> int:
    status = ExitStatus.DONE
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        decision = _answer_line(line, table)
        if "error" in decision:
            decision["line"] = number
            status = ExitStatus.NO
        print(json.dumps(decision), flush=True)
    return status


def _answer_line(line: bytes, table: RoutingTable) -> dict[str, Any]:
    name: Any = None
    try:
        body = parse_object(line)
        name = body.get("id")
        return {"id": name, **explain(body, table)}
    except BadBody as error:
        return {"id": name, "error": str(error)}


def _print(decision: dict[str, Any]) -> None:
    if "error" in decision:
        print(f"nobody answers: {decision['error']}")
        return
    print(f"route       {decision['route']}")
    print(f"model       {decision['model']}")
    print(f"decided by  {decision['decided_by']}")
    if decision["score"] is not None:
        unsure = " (unsure: the default answers)" if decision["verdict"] == "unsure" else ""
        print(f"p(code)     {decision['score']:.2f}{unsure}")
        print(f"signs       {', '.join(decision['signs'])}")
    if decision["fallback"] is not None:
        print(f"fallback    {decision['fallback']}")
