#!/usr/bin/env python3
"""Races the router against its peers; scripts/bench_router is the command, docs/performance.md
says what is measured.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "scripts" / "bench"
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- race -->\n", "<!-- end of race -->"

QUICK = "idle1000,disconnect,reuse,c1,c32,stream256"
ALL = "idle1000,slow,disconnect,pipeline,reuse,c1,c32,body100k,stream256"
PEERS = "direct,nginx,haproxy,aiohttp-uvloop,vllm-router,llama-swap,gpuserve,gpuserve-auto"
OURS = ("gpuserve", "gpuserve-auto")
AGAINST = ("nginx", "haproxy", "aiohttp-uvloop", "vllm-router", "llama-swap")


@dataclass(frozen=True, slots=True)
class Figure:
    """One column: a metric of one test of the race, and what it is called."""

    test: str
    metric: str
    title: str
    digits: int


FIGURES = (
    Figure("c1", "lat.p50", "latency, 1 connection, µs", 0),
    Figure("c32", "us_per_req", "CPU per request, 32 connections, µs", 1),
    Figure("c32", "rps", "requests per second, 32 connections", 0),
    Figure("body100k", "us_per_req", "CPU per request, 100 KB body, µs", 0),
    Figure("stream256", "us_per_token", "CPU per token, 256 streams, µs", 1),
    Figure("stream256", "added_p50", "delay added to a token, µs", 0),
    Figure("idle1000", "kb_per_stream", "memory per idle stream, KB", 1),
)
BEHAVIOUR = (
    Figure("disconnect", "stream_ms", "client leaves a stream, ms", 1),
    Figure("disconnect", "prefill_ms", "before the first token, ms", 1),
    Figure("disconnect", "nonstream_ms", "a plain answer, ms", 1),
    Figure("slow", "rss_growth_mb", "slow reader, MB grown", 1),
    Figure("slow", "pulled_mb", "MB pulled", 0),
    Figure("reuse", "failed_per_1000", "failed at reuse, per 1000", 0),
)
FAULTS = ("bad", "err", "mixed", "short")


def main() -> int:
    args = _arguments()
    if not args.no_install:
        _install()
    with tempfile.TemporaryDirectory(prefix="gs-race-") as directory:
        peers = Path(directory, "peers.json")
        peers.write_text(json.dumps(list(_peers(Path(directory)))))
        began = time.monotonic()
        result = _race(args, peers)
        minutes = (time.monotonic() - began) / 60
    if args.json:
        print(json.dumps(result))
    else:
        text = report(result["rows"], args.rounds, minutes)
        print(text)
        for line in result["requirements"]:
            print(line)
        if args.page:
            old = PAGE.read_text("utf-8")
            PAGE.write_text(with_report(old, text), "utf-8")
    return 1 if any(line.startswith("MISSED") for line in result["requirements"]) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench_router", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of fewer tests")
    parser.add_argument("--rounds", type=int, help="default: 5, with --quick 1")
    parser.add_argument("--tests", help=f"of {ALL},open1k,burst256")
    parser.add_argument("--peers", default=PEERS, help="default: %(default)s")
    parser.add_argument("--no-install", action="store_true", help="race what is installed")
    parser.add_argument("--require", action="append", default=[], help="exit 1 when missed")
    parser.add_argument("--json", action="store_true", help="every row, and a summary")
    parser.add_argument("--page", action="store_true", help="write the tables into the docs")
    args = parser.parse_args()
    args.rounds = args.rounds or (1 if args.quick else 5)
    args.tests = args.tests or (QUICK if args.quick else ALL)
    return args


def _race(args: argparse.Namespace, peers: Path) -> dict[str, Any]:
    ports = ",".join(str(port) for port in _free_ports(2))
    command = [
        sys.executable,
        str(HERE / "race"),
        *("--upstream", ports, "--model", "m1,m2", "--peers", args.peers),
        *("--peers-file", str(peers), "--tests", args.tests, "--rounds", str(args.rounds)),
        *(word for require in args.require for word in ("--require", require)),
        "--json",
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if not done.stdout:
        sys.exit(done.returncode or 1)  # it has said why
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _peers(directory: Path) -> Iterator[dict[str, Any]]:
    """Yield the peers that `race` does not know by itself; it leaves out what does not exist."""
    for name, model in (("gpuserve", "m1"), ("gpuserve-auto", "auto")):
        command = f"{sys.executable} {HERE}/router.py {directory}/{name} {{port}} {{up}} {{up2}}"
        yield {"name": name, "cmd": command, "model": model}
    router = shutil.which("vllm-router") or str(_peer_venv() / "bin" / "vllm-router")
    yield {
        "name": "vllm-router",
        "cmd": f"{router} --worker-urls http://127.0.0.1:{{up}} --host 127.0.0.1 --port {{port}}"
        " --policy round_robin --log-level error --prometheus-port {free}",
    }
    swap = shutil.which("llama-swap")
    if swap is not None:
        model = "models:\n  m1:\n    cmd: sleep 1000000\n    proxy: http://127.0.0.1:{up}\n"
        model += "    checkEndpoint: none\n    concurrencyLimit: 100000\n"
        yield {
            "name": "llama-swap",
            "cmd": f"{swap} --config {{dir}}/swap.yaml --listen 127.0.0.1:{{port}}",
            "files": {"swap.yaml": model},
        }


def _install() -> None:
    missing = [name for name in ("nginx", "haproxy") if not _there(name)]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        packages = [{"nginx": "nginx-light"}.get(name, name) for name in missing]
        _try(["apt-get", "update", "-qq"])
        _try(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages])
    elif missing:
        print(f"not installed, so left out: {', '.join(missing)}", file=sys.stderr)
    venv = _peer_venv()
    if not (venv / "bin" / "vllm-router").exists() and not shutil.which("vllm-router"):
        print("installing vllm-router from PyPI (130 MB)", file=sys.stderr)
        _try([sys.executable, "-m", "venv", str(venv)])
        _try([str(venv / "bin" / "pip"), "install", "-q", "vllm-router"])


def _try(command: Sequence[str]) -> None:
    """Run *command*; what cannot be installed is left out, and said."""
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        print(f"{' '.join(command)} failed ({done.returncode})", file=sys.stderr)


def _there(name: str) -> bool:
    return bool(shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin"))


def _peer_venv() -> Path:
    return ROOT / ".cache" / "race-peers"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def report(rows: Sequence[dict[str, Any]], rounds: int, minutes: float) -> str:
    """Return the tables, in Markdown."""
    names = list(dict.fromkeys(row["target"] for row in rows if row["target"] != "direct"))
    names.sort(key=lambda name: (name not in OURS, name))
    lines = [
        f"{rounds} rounds in {minutes:.0f} minutes; medians over the rounds. {machine()}",
        "",
        *_table(FIGURES, names, rows),
    ]
    for ours in OURS:
        against = [name for name in AGAINST if name in names]
        if ours in names and against:
            lines += ["", *_ratios(ours, against, rows)]
    if any(row["test"] == figure.test for row in rows for figure in BEHAVIOUR):
        lines += ["", *_table(BEHAVIOUR, names, rows)]
    return "\n".join(lines) + "\n"


def machine() -> str:
    """Return what class of machine this is, in a sentence."""
    cpus = os.cpu_count() or 1
    kind = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            kind = line.partition(":")[2].strip()
            break
    virtual = "virtual machine" if "hypervisor" in Path("/proc/cpuinfo").read_text() else "machine"
    python = ".".join(str(part) for part in sys.version_info[:2])
    return f"A {virtual} with {cpus} CPUs ({kind}), Python {python}."


def _table(
    figures: Sequence[Figure], names: Sequence[str], rows: Sequence[dict[str, Any]]
) -> Iterator[str]:
    shown = [f for f in figures if any(row["test"] == f.test for row in rows)]
    yield "| | " + " | ".join(f.title for f in shown) + " | faults |"
    yield "|---|" + "---|" * (len(shown) + 1)
    for name in names:
        cells = [_cell(f, name, rows) for f in shown]
        yield f"| {name} | " + " | ".join(cells) + f" | {_faults(shown, name, rows)} |"


def _cell(figure: Figure, name: str, rows: Sequence[dict[str, Any]]) -> str:
    mine = [row for row in rows if row["target"] == name and row["test"] == figure.test]
    values = [v for row in mine if (v := _dig(row, figure.metric)) is not None]
    if values:
        return f"{statistics.median(values):,.{figure.digits}f}"
    # An engine that was never told has no time.
    return "never" if mine and figure.test == "disconnect" else "–"


def _faults(figures: Sequence[Figure], name: str, rows: Sequence[dict[str, Any]]) -> str:
    tests = {f.test for f in figures}
    mine = [row for row in rows if row["target"] == name and row["test"] in tests]
    found = {kind: sum(row.get(kind) or 0 for row in mine) for kind in FAULTS}
    told = [f"{count} {kind}" for kind, count in found.items() if count]
    told += ["failed: " + row["test"] for row in mine if "fail" in row]
    return ", ".join(told) or "none"


def _ratios(ours: str, against: Sequence[str], rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield f"| {ours} / | " + " | ".join(against) + " |"
    yield "|---|" + "---|" * len(against)
    for figure in FIGURES:
        cells = [_ratio(figure, ours, name, rows) for name in against]
        if any(cell != "–" for cell in cells):
            yield f"| {figure.title.rpartition(',')[0]} | " + " | ".join(cells) + " |"


def _ratio(figure: Figure, ours: str, name: str, rows: Sequence[dict[str, Any]]) -> str:
    """Return the median over the rounds of ours / theirs in the same round."""
    by_round: dict[int, dict[str, float]] = {}
    for row in rows:
        value = _dig(row, figure.metric) if row["test"] == figure.test else None
        if value is not None:
            by_round.setdefault(row["round"], {})[row["target"]] = value
    found = [
        values[ours] / values[name]
        for values in by_round.values()
        if ours in values and values.get(name)
    ]
    return f"{statistics.median(found):.2f}" if found else "–"


def _dig(row: dict[str, Any], metric: str) -> float | None:
    value: Any = row
    for key in metric.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, int | float) else None


def with_report(page: str, text: str) -> str:
    """Return *page* with *text* between its two marks."""
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{PAGE} has no place for the tables")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


if __name__ == "__main__":
    sys.exit(main())
