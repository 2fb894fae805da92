"""A worker's control socket: what the controller asks of it, and what workers ask each other."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import aiohttp
from aiohttp import web

from gpuserve import jsonvalues
from gpuserve.router.links import Links
from gpuserve.router.metrics import summed
from gpuserve.router.tablefile import TableFile
from gpuserve.routing.table import RoutingTable

# A sibling that does not answer in this time is left out of the sum.
_SIBLING_TIMEOUT_S = 1.0


class Control:
    """The handler of the control socket; its paths are in `handle`."""

    def __init__(
        self,
        tables: TableFile,
        links: Links,
        own_metrics: Callable[[], str],
        drain: Callable[[], None],
    ) -> None:
        self._tables = tables
        self._links = links
        self._own_metrics = own_metrics
        self._drain = drain

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer POST /reload and /drain, GET /upstreams and /metrics."""
        match request.method, request.path:
            case "POST", "/reload":
                return await self._reload(await request.read())
            case "POST", "/drain":
                self._drain()
                return web.json_response({"draining": True})
            case "GET", "/upstreams":
                return web.json_response({"upstreams": self._upstreams()})
            case "GET", "/metrics":
                return web.Response(text=self._own_metrics())
        return web.json_response({"error": f"no {request.method} {request.path}"}, status=404)

    async def _reload(self, body: bytes) -> web.Response:
        """Take the table in *body*; without one, read the file.

        The controller sends the table along, so that a full disk does not keep workers from
        learning that a model drains.
        """
        if body:
            try:
                self._tables.take(jsonvalues.loads(RoutingTable, body))
            except ValueError as error:
                return web.json_response({"error": f"no table: {error}"}, status=400)
        else:
            self._tables.refresh(force=True)
        table = self._tables.table
        if table is None:
            return web.json_response({"generation": None})
        await self._links.forget(table)
        return web.json_response({"generation": table.generation})

    def _upstreams(self) -> dict[str, dict[str, int]]:
        names = [u.name for u in self._tables.table.upstreams] if self._tables.table else []
        zero = dict.fromkeys(("in_flight", "bytes", "requests", "failures"), 0)
        return {name: dict(zero) for name in names} | {
            name: {
                "in_flight": tally.in_flight,
                "bytes": tally.bytes,
                "requests": tally.requests,
                "failures": tally.failures,
            }
            for name, tally in self._links.tallies.items()
        }


async def metrics_of_all(own: Path, text: str) -> str:
    """Return *text*, the metrics of the worker whose control socket is *own*, plus its siblings'.

    A socket that nobody answers on belongs to a worker that ended.
    """
    siblings = [path for path in own.parent.glob("*.sock") if path != own]
    texts = await asyncio.gather(*(_metrics_at(path) for path in siblings))
    return summed([text, *filter(None, texts)])


async def _metrics_at(path: Path) -> str | None:
    timeout = aiohttp.ClientTimeout(total=_SIBLING_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(os.fspath(path)), timeout=timeout
            ) as session,
            session.get("http://localhost/metrics") as answer,
        ):
            return await answer.text() if answer.status == 200 else None
    except (aiohttp.ClientError, TimeoutError):
        return None
