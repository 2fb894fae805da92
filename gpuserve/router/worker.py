"""A router process: takes connections from the inherited socket until it is told to stop."""

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from aiohttp import web

from gpuserve.router.aside import Aside
from gpuserve.router.control import Control, metrics_of_all
from gpuserve.router.enginemetrics import engine_metrics
from gpuserve.router.fast.server import FastServer
from gpuserve.router.front import Front
from gpuserve.router.limits import Bodies
from gpuserve.router.links import Links
from gpuserve.router.metrics import Metrics
from gpuserve.router.server import PublicServer
from gpuserve.router.tablefile import TableFile
from gpuserve.routing.compiled import shipped_scan
from gpuserve.routing.model import shipped
from gpuserve.rundir import RunDir

# After SIGTERM; `POST /drain` waits for as long as the streams last.
# Less than the keeper waits before it kills (keeperconf.ROUTER_STOP_S).
DRAIN_TIMEOUT_S = 8.0
# A poke that got lost heals after this.
TABLE_CHECK_S = 1.0

_BACKLOG = 2048
# From the last accept until an idle connection is closed: what a client sent before it could
# know is answered.
_GRACE_S = 0.1
# What is left after that, or for control requests, is cut.
_CUT_TIMEOUT_S = 0.2

# A collection stops every stream. The defaults, 700, 10 and 10, are for programs whose objects
# refer to each other in circles.
_GC_THRESHOLDS = (50_000, 20, 50)

_log = logging.getLogger("gpuserve.router")


class Worker:
    """One router process: the public server, its control socket, and the way out.

    Without *fast*, aiohttp serves everything.
    """

    def __init__(self, run_dir: RunDir, slot: int, *, fast: bool = True) -> None:
        self._slot = slot
        self._control_path = run_dir.router_socket(slot)
        self._tables = TableFile(run_dir.routing)
        self._links = Links()
        self._metrics = Metrics()
        self._aside = Aside()
        self._bodies = bodies = Bodies()
        self._front = Front(
            self._tables,
            self._links,
            bodies,
            self._aside,
            self._metrics,
            self._metrics_of_all,
        )
        self._public = PublicServer(
            self._front.handle,
            lambda: self._tables.limits,
            self._metrics.refused,
            access_log=None,
            tcp_keepalive=True,
        )
        self._fast = FastServer(self._tables, self._links, bodies, self._public) if fast else None
        self._told_to_stop = False
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()

    async def serve(self, listening: socket.socket) -> None:
        """Serve on *listening* until `stop` or `drain`; returns once the last stream has ended."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        loop.add_signal_handler(signal.SIGINT, self.stop)
        self._tables.refresh()
        # The first request that is classified need not wait for the table.
        shipped()
        if shipped_scan() is None and self._slot == 1:
            _log.warning(
                "the classifier runs in Python: a verdict takes 60 µs, compiled 10; gpuserve was "
                "installed without a C compiler and Python's headers"
            )
        # Accepted connections inherit it.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        serving = self._fast or self._public
        accepting = await loop.create_server(serving, sock=listening, backlog=_BACKLOG)
        control = Control(self._tables, self._links, self._own_metrics, self.drain)
        inside = web.Server(control.handle, access_log=None)
        # Last, because who finds this socket may take it that connections are accepted.
        asking = await self._open_control(inside)
        # The controller writes the table before it looks whom to tell: what it wrote until now is
        # in the file, and of all that follows it tells us.
        self._tables.refresh()
        tasks = [asyncio.create_task(self._watch_table())]
        if self._fast is not None:
            tasks.append(asyncio.create_task(self._fast.sweep_forever()))
        # What was made until now stays; what requests make is freed by counting.
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        await self._stopping.wait()
        await self._finish(accepting)
        for task in tasks:
            task.cancel()
        asking.close()
        await inside.shutdown(_CUT_TIMEOUT_S)
        self._control_path.unlink(missing_ok=True)
        await self._aside.close()
        await self._links.close()

    def drain(self) -> None:
        """Take no more connections; serve() returns when the last stream has ended."""
        self._stopping.set()

    def stop(self) -> None:
        """Drain, for DRAIN_TIMEOUT_S at most; a second time, at once."""
        if self._told_to_stop:
            self._hurry.set()
            return
        self._told_to_stop = True
        asyncio.get_running_loop().call_later(DRAIN_TIMEOUT_S, self._hurry.set)
        self._stopping.set()

    async def _finish(self, accepting: asyncio.Server) -> None:
        public, fast = self._public, self._fast
        accepting.close()
        self._front.draining = True
        await _first(asyncio.sleep(_GRACE_S), self._hurry.wait())
        # The first ends the tasks of idle connections, the second closes them, and the others
        # when their answer has ended.
        public.pre_shutdown()
        await asyncio.sleep(0)
        await _first(self._drained(), self._hurry.wait())
        await public.shutdown(_CUT_TIMEOUT_S)
        if fast is not None:
            await fast.cut(_CUT_TIMEOUT_S)

    async def _drained(self) -> None:
        # Together: connections that the fast path has lent are the other side's to close.
        ending = [self._public.shutdown(None)]
        if self._fast is not None:
            ending.append(self._fast.drain())
        await asyncio.gather(*ending)

    async def _open_control(self, inside: web.Server) -> asyncio.Server:
        path = self._control_path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        return await asyncio.get_running_loop().create_unix_server(inside, os.fspath(path))

    async def _watch_table(self) -> None:
        while True:
            await asyncio.sleep(TABLE_CHECK_S)
            if self._tables.refresh() and self._tables.table is not None:
                await self._links.forget(self._tables.table)

    def _own_metrics(self) -> str:
        further = self._fast.counts.render() if self._fast is not None else ""
        return self._metrics.render(
            self._links.tallies, further, held_bytes=self._bodies.held_bytes
        )

    async def _metrics_of_all(self) -> str:
        counted = await metrics_of_all(self._control_path, self._own_metrics())
        return counted + engine_metrics(self._tables.table)


async def _first(*waiting: Coroutine[Any, Any, Any]) -> None:
    """Wait for whichever ends first, and drop the others."""
    tasks = [asyncio.ensure_future(one) for one in waiting]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


def run(path: Path, slot: int, *, fast: bool) -> int:
    """Serve in *slot* of the run directory *path* on file descriptor 0; the exit status."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING,
        format=f"router {slot}: %(levelname)s: %(message)s",
    )
    try:
        listening = _inherited()
    except OSError as error:
        print(f"router: file descriptor 0 is no listening socket: {error}", file=sys.stderr)
        return 2
    _allow_many_connections()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(RunDir(path), slot, listening, fast=fast))
    return 0


def _allow_many_connections() -> None:
    # Two descriptors per stream; the soft limit of 1,024 is there for programs that use select(2).
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _inherited() -> socket.socket:
    # libuv never closes a descriptor up to 2 (uv__stream_close), and a worker that cannot close
    # the socket cannot stop accepting: it moves up, and 0 becomes what others expect there.
    listening = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return listening


async def _serve(run_dir: RunDir, slot: int, listening: socket.socket, *, fast: bool) -> None:
    await Worker(run_dir, slot, fast=fast).serve(listening)


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:  # no wheel for this platform: slower, and the same otherwise
        return asyncio.new_event_loop
    return uvloop.new_event_loop
