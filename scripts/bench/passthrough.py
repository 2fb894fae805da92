#!/usr/bin/env python3
"""A router that does nothing, written plainly on aiohttp: what its server and client cost.

usage: passthrough.py PORT UPSTREAM_URL [--uvloop]
"""

import asyncio
import sys

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

# Of one connection, or made anew.
_DROPPED = frozenset(
    (
        "host",
        "connection",
        "keep-alive",
        "transfer-encoding",
        "content-length",
        "te",
        "trailer",
        "upgrade",
        "expect",
    )
)
_LARGEST_BYTES = 64 << 20
_BACKLOG = 4096


class Passthrough:
    """Sends every request to *upstream*, and its answer back as it comes."""

    def __init__(self, upstream: str, session: ClientSession) -> None:
        self._upstream = upstream
        self._session = session

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _DROPPED}
        url = self._upstream + request.path_qs
        async with self._session.request(
            request.method, url, data=body or None, headers=headers
        ) as answer:
            response = web.StreamResponse(status=answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in _DROPPED:
                    response.headers[name] = value
            response.content_length = answer.content_length
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response


async def serve(port: int, upstream: str) -> None:
    async with ClientSession(
        connector=TCPConnector(limit=0), timeout=ClientTimeout(total=None), auto_decompress=False
    ) as session:
        app = web.Application(client_max_size=_LARGEST_BYTES)
        app.router.add_route("*", "/{tail:.*}", Passthrough(upstream, session).handle)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=_BACKLOG).start()
        await asyncio.Event().wait()


def main() -> None:
    working = serve(int(sys.argv[1]), sys.argv[2])
    if "--uvloop" in sys.argv[3:]:
        import uvloop

        uvloop.run(working)
    else:
        asyncio.run(working)


if __name__ == "__main__":
    main()
