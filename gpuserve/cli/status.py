"""Show what runs, since when, and why not."""

import argparse
import json
from typing import Any

from gpuserve.cli.main import say
from gpuserve.cli.progress import duration, words
from gpuserve.cli.target import need_instance, patient_status, run_dir_of
from gpuserve.errors import ExitStatus
from gpuserve.machine.control import ControllerSilent
from gpuserve.units import gib


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--json", action="store_true", help="print the status as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the status; return 0 if all that should run is ready, 1 if something is not."""
    run_dir = run_dir_of(args)
    need_instance(run_dir)
    try:
        status = patient_status(run_dir)
    except ControllerSilent as error:
        say(f"error: {error.message}")
        say("the keeper runs; engines and routers do not need the controller to serve")
        say(f"hint: {error.hint}")
        return ExitStatus.NO
    if args.json:
        print(json.dumps(status))
    else:
        print("\n".join(lines(status)))
    return ExitStatus.DONE if all_ready(status) else ExitStatus.NO


def all_ready(status: dict[str, Any]) -> bool:
    """Return whether every model that should run is ready; an instance that stops is not."""
    return not status["stopping"] and all(m["ready"] for m in status["models"] if m["wanted"])


def lines(status: dict[str, Any]) -> list[str]:
    """Return the status for people."""
    shown = [
        f"{status['router']['url']}  profile {status['profile']}",
        *(f"fault: {fault}" for fault in status["faults"]),
        *_reload(status.get("reload")),
        "",
    ]
    rows: list[tuple[str, ...]] = [
        ("MODEL", "STATE", "SINCE", "PID", "GPUS", "RESTARTS", "KV TOKENS", "WHY")
    ]
    rows += [_row(model) for model in status["models"]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)]
        shown.append("  ".join(cells).rstrip())
    for upstream in status["upstreams"]:
        models = ", ".join(upstream["models"])
        shown.append(
            f"{upstream['name']}  External  {upstream['url']}  {models}  {upstream['reason'] or ''}"
        )
    shown += _memory(status["models"])
    shown += [
        f"last error of {model['name']}: {model['last_error']}"
        for model in status["models"]
        if model["last_error"]
    ]
    return shown


def _memory(models: list[dict[str, Any]]) -> list[str]:
    """Return what the engines hold beside what was predicted, per GPU; [] before any is ready."""
    parts = (
        ("weights", "weights"),
        ("kv_cache", "KV cache"),
        ("activation", "activation peak"),
        ("cuda_graph", "CUDA graphs"),
        ("non_torch", "libraries"),
    )
    found = []
    for model in models:
        actual, predicted = model["memory"]["actual"], model["memory"]["predicted"]
        told = [
            f"{name} {gib(actual[key])} ({_planned(key, predicted[key])})"
            for part, name in parts
            if (key := f"{part}_bytes") in actual and key in predicted
        ]
        if told:
            found.append(f"memory of {model['name']}: {', '.join(told)}")
    return found


def _planned(key: str, size_bytes: int) -> str:
    if key == "cuda_graph_bytes" and not size_bytes:
        return "planned outside of the budget"
    return f"predicted {gib(size_bytes)}"


def _reload(reload: dict[str, Any] | None) -> list[str]:
    """What the last reload does, or has left undone; nothing once all is as the profile says."""
    if reload is None or reload["state"] == "done":
        return []
    models = "; ".join(f"{name}: {words}" for name, words in reload["models"].items())
    return [f"reload of {reload['profile']} ({reload['state']}): {models}"]


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    name, state, _, why = words(model)
    if model.get("pending"):
        why = f"{why}; new settings at its next start".lstrip("; ")
    since = duration(model["since_s"])
    memory = model["memory"]
    tokens = memory["actual"].get("kv_cache_tokens")
    promised = memory["predicted"].get("kv_cache_tokens")
    kv = f"{tokens:,}" if tokens else "-"
    if tokens and promised and tokens != promised:
        kv += f" (predicted {promised:,})"
    elif promised and not tokens:
        kv = f"({promised:,} predicted)"
    return (
        name,
        state,
        since,
        str(model["pid"] or "-"),
        ",".join(map(str, model["gpus"])) or "-",
        str(model["restarts"]),
        kv,
        why,
    )
