#!/usr/bin/env python3
"""Becomes one router worker of gpuserve in front of two fake engines, m1 and m2.

usage: router.py DIRECTORY PORT UPSTREAM_PORT UPSTREAM_PORT [--aiohttp-only]
"""

import os
import socket
import sys
from pathlib import Path

from gpuserve import jsonvalues
from gpuserve.plan import Capabilities
from gpuserve.profile.spec import RoutingSpec
from gpuserve.routing.table import RoutingTable, Upstream
from gpuserve.rundir import RunDir

_MODELS = ("m1", "m2")
_CONTEXT_TOKENS = 1 << 17
_BACKLOG = 4096


def table(ports: list[int]) -> RoutingTable:
    """Return a table as the controller writes it: code to m1, everything else to m2."""
    upstreams = tuple(
        Upstream(
            name=name,
            names=(name,),
            url=f"http://127.0.0.1:{port}",
            state="Ready",
            routable=True,
            served_names=(name, RoutingSpec().auto),  # as engines are started
            capabilities=Capabilities(chat=True, max_model_len=_CONTEXT_TOKENS),
        )
        for name, port in zip(_MODELS, ports, strict=True)
    )
    routing = RoutingSpec(code="m1", general="m2", default="m2")
    return RoutingTable(instance="race", generation=1, routing=routing, upstreams=upstreams)


def main() -> None:
    directory, port, *ports = sys.argv[1:5]
    run_dir = RunDir(Path(directory))
    run_dir.path.mkdir(parents=True, exist_ok=True)
    run_dir.routing.write_bytes(jsonvalues.dumps(table([int(p) for p in ports])))
    listening = socket.create_server(("127.0.0.1", int(port)), backlog=_BACKLOG)
    os.dup2(listening.fileno(), 0)
    os.execv(
        sys.executable,
        [sys.executable, "-m", "gpuserve.router", *sys.argv[5:], str(run_dir.path), "1"],
    )


if __name__ == "__main__":
    main()
