"""An upstream whose every move the test decides: no sleeping, events instead.

It answers like vLLM where that matters to a router, and records what it was sent.
"""

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class FakeUpstream:
    """Serves on a Unix socket until closed.

    A streamed answer sends one chunk per item put into `chunks`, ends at None, and breaks the
    connection at "die". `gate`, when cleared, holds every answer back before its first byte.
    """

    name: str
    socket: Path
    seen: list[Seen] = field(default_factory=list)
    chunks: "asyncio.Queue[bytes | str | None]" = field(default_factory=asyncio.Queue)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    die_before_answer: bool = False
    close_after_answer: bool = False
    status: int = 200
    tokens: int | None = None  # what /tokenize counts; None: it answers something else
    _runner: Any = None

    async def start(self) -> None:
        self.gate.set()
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, max_field_size=1 << 16
        )
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.socket)).start()

    async def close(self) -> None:
        await self._runner.cleanup()
        self.socket.unlink(missing_ok=True)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.seen.append(
            Seen(request.method, request.raw_path, dict(request.headers.items()), body)
        )
        self.arrived.set()
        try:
            await self.gate.wait()
            if self.die_before_answer:
                return self._break(request)
            is_json = request.content_type == "application/json" and body
            parsed = json.loads(body) if is_json else {}
            if parsed.get("stream"):
                return await self._stream(request)
            if request.path.endswith("tokenize") and self.tokens is not None:
                count = {"count": self.tokens, "max_model_len": 4096, "tokens": [1] * self.tokens}
                return web.json_response(count)
            answer: dict[str, Any] = {"served_by": self.name, "model": parsed.get("model")}
            answer |= _completion(self.name) if request.path.endswith("completions") else {}
            return web.json_response(answer, status=self.status, headers={"x-engine": self.name})
        except asyncio.CancelledError:
            self.left.set()
            raise

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        while (chunk := await self.chunks.get()) is not None:
            if chunk == "die":
                return self._break(request)
            assert isinstance(chunk, bytes)
            await response.write(chunk)
        await response.write_eof()
        return response

    def _break(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()


def _completion(name: str) -> dict[str, Any]:
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": f"hello from {name}"},
            }
        ],
    }
