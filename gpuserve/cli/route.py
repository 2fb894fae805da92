"""Explain where a prompt goes and why. No server is needed or asked.

Without --profile the routes are `code` and `general`, each with a model of that name. Every model
counts as ready but those that --down names.

With --jsonl one request body per line is read from stdin, {"id": …, "messages": […]}, and one JSON
object per line is printed; a line that is no request gets an object with "error".

With --eval FILE the lines of FILE are requests with a label, {"messages": […], "label": "code"} or
{"prompt": "…", "label": "general"}, and what is printed is how many go where their label says. A
label is a route of the profile, or "borderline" for a row that is not scored; a model that a row
names is left aside.

Exit status: 0 done, 1 nobody would answer, or a line could not be used (it is named), 2 usage, 78
the profile is invalid.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from gpuserve.cli.main import say
from gpuserve.cli.routeeval import print_evaluation, read_rows
from gpuserve.errors import ExitStatus, UsageError
from gpuserve.routing.body import BadBody, parse_object
from gpuserve.routing.evaluate import evaluation
from gpuserve.routing.explain import explain, supposed_table, with_down
from gpuserve.routing.request import text_bytes
from gpuserve.routing.table import RoutingTable


def configure(parser: argparse.ArgumentParser) -> None:
    """Add what `route` takes."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("prompt", metavar="PROMPT", nargs="?", help="default, or -: read stdin")
    parser.add_argument("--profile", metavar="PROFILE", type=Path, help="the models of a profile")
    parser.add_argument(
        "--header",
        metavar="NAME:VALUE",
        action="append",
        default=[],
        help="as if the request had this header; may be given several times",
    )
    parser.add_argument(
        "--down",
        metavar="MODEL",
        action="append",
        default=[],
        help="as if this model were not ready; may be given several times",
    )
    parser.add_argument(
        "--body", action="store_true", help="PROMPT, or stdin, is a request body in JSON"
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--jsonl", action="store_true", help="request bodies in, decisions out")
    shape.add_argument(
        "--eval", metavar="FILE", type=Path, help="measure on labelled requests; -: stdin"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the decision, one per line, or the evaluation; the docstring has the exit statuses."""
    table = _table(args.profile, args.down)
    headers = _headers(args.header)
    if args.eval is not None:
        if args.prompt is not None or args.body or headers:
            raise UsageError("--eval reads requests from its file: no PROMPT, --body or --header")
        return _evaluate(args.eval, table, as_json=args.json)
    if args.jsonl:
        if args.prompt not in (None, "-") or args.body or args.json:
            raise UsageError("--jsonl reads request bodies from stdin, not from PROMPT")
        return _answer_lines(sys.stdin.buffer, table, headers)
    decision = _explained(args, table, headers)
    if args.json:
        print(json.dumps(decision, ensure_ascii=False, indent=2))
    else:
        _print(decision)
    return ExitStatus.NO if "error" in decision else ExitStatus.DONE


def _explained(
    args: argparse.Namespace, table: RoutingTable, headers: Mapping[str, str]
) -> dict[str, Any]:
    if args.prompt in (None, "-"):
        raw = sys.stdin.buffer.read()
    else:
        # Arguments that are not UTF-8 arrive with surrogates, which cannot be printed.
        raw = args.prompt.encode("utf-8", "replace")
    if not args.body:
        content = raw.decode("utf-8", "replace")
        return explain({"messages": [{"role": "user", "content": content}]}, table, headers=headers)
    try:
        body = parse_object(raw)
        return explain(body, table, headers=headers, size_bytes=text_bytes(raw))
    except BadBody as error:
        raise UsageError(str(error), hint='--body wants {"messages": […]} or the like') from error


def _table(profile: Path | None, down: Iterable[str]) -> RoutingTable:
    if profile is None:
        table = supposed_table()
    else:
        from gpuserve.profile.load import load

        table = supposed_table(load(profile))
    try:
        return with_down(table, down)
    except KeyError as error:
        known = ", ".join(table.by_name) or "none"
        raise UsageError(f'no model is called "{error.args[0]}"', hint=f"known: {known}") from error


def _headers(given: Iterable[str]) -> dict[str, str]:
    found = {}
    for line in given:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise UsageError(f'"{line}" is no header', hint='for example: --header "x-team: data"')
        found[name.strip().lower()] = value.strip()
    return found


def _answer_lines(lines: BinaryIO, table: RoutingTable, headers: Mapping[str, str]) -> int:
    status = ExitStatus.DONE
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        decision = _answer_line(line.rstrip(b"\r\n"), table, headers)
        if "error" in decision:
            decision["line"] = number
            status = ExitStatus.NO
        print(json.dumps(decision), flush=True)
    return status


def _answer_line(line: bytes, table: RoutingTable, headers: Mapping[str, str]) -> dict[str, Any]:
    name: Any = None
    try:
        body = parse_object(line)
        name = body.get("id")
        told = explain(body, table, headers=headers, size_bytes=text_bytes(line))
    except BadBody as error:
        told = {"error": str(error)}
    return {"id": name, **told}


def _evaluate(path: Path, table: RoutingTable, *, as_json: bool) -> int:
    rows = read_rows(path, table)
    for number, why in rows.bad:
        say(f"line {number}: {why}")
    if rows.bad:
        say(f"{len(rows.bad)} of {rows.lines} lines cannot be used")
    found = evaluation(rows.judged) | {
        "skipped": rows.skipped,
        "bad_lines": [{"line": number, "error": why} for number, why in rows.bad],
    }
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        print_evaluation(found)
    return ExitStatus.DONE if rows.judged and not rows.bad else ExitStatus.NO


def _print(decision: dict[str, Any]) -> None:
    if "error" in decision:
        print(f"nobody answers: {decision['error']}")
        print(f"status      {decision['status']} {decision['code']}")
        if decision["reason"]:
            print(f"meant for   {decision['meant_for']}, {decision['reason']}")
        return
    print(f"route       {decision['route']}")
    print(f"model       {decision['model']}")
    print(f"decided by  {decision['decided_by']}")
    if decision["score"] is not None:
        low, high = decision["unsure_between"]
        unsure = "unsure, the default answers; " if decision["verdict"] == "unsure" else ""
        print(f"p(code)     {decision['score']:.2f} ({unsure}unsure is {low:.2f} to {high:.2f})")
        print(f"signs       {', '.join(decision['signs'])}")
    elif decision["hits"]:
        print(f"because     {', '.join(decision['hits'])}")
    else:
        print(f"because     {decision['reason'].partition(': ')[2]}")
    if decision["fallback"] is not None:
        print(f"instead of  {decision['fallback']}")
    print(f"fallback    {', then '.join(decision['fallbacks']) or 'none'}")
    if decision["max_tokens"] is not None:
        print(f"max_tokens  lowered to {decision['max_tokens']}")
    if decision["asks_tokenizer"]:
        print("length      near the edge: the router asks the engine's tokenizer")
