"""A hub with one repository, `org/tiny`, that really listens; faults are switched on by name."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHARD = b"x" * 300_000
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}",
    "README.md": b"# read me",
    "model.safetensors.index.json": json.dumps(
        {
            "weight_map": {
                "a": "model-00001-of-00002.safetensors",
                "b": "model-00002-of-00002.safetensors",
            }
        }
    ).encode(),
    "model-00001-of-00002.safetensors": SHARD,
    "model-00002-of-00002.safetensors": SHARD[1:],
    "pytorch_model.bin": SHARD,
    "original/consolidated.00.pth": SHARD,
    "onnx/model.onnx": SHARD,
    "model.Q4_K_M.gguf": SHARD,
}


@dataclass
class Hub:
    """A hub with one repository; what is asked of it is kept in `asked`."""

    files: dict[str, bytes]
    url: str = ""
    status: int = 200  # of the answer to everything
    error_code: str = ""
    cut: set[str] = field(default_factory=set)  # broken off half-way, once each
    refuse: set[str] = field(default_factory=set)  # answered with 503
    gated: set[str] = field(default_factory=set)  # answered with 403, for want of a licence
    hang: set[str] = field(default_factory=set)  # half of it, then nothing
    hanging: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def fetched(self) -> set[str]:
        return {name for name, _ in self.asked}

    async def tree(self, request: web.Request) -> web.Response:
        if self.status != 200:
            return self.refusal()
        return web.json_response(
            [
                {
                    "type": "file",
                    "path": name,
                    "size": len(data),
                    "oid": hashlib.sha1(data).hexdigest(),
                    **({"lfs": lfs(data)} if len(data) > 1000 else {}),
                }
                for name, data in self.files.items()
            ]
        )

    async def info(self, request: web.Request) -> web.Response:
        if self.status != 200:
            return self.refusal()
        siblings = [{"rfilename": name} for name in self.files]
        return web.json_response({"id": "org/tiny", "sha": COMMIT, "siblings": siblings})

    async def file(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if self.status != 200:
            return self.refusal()
        if name in self.gated:
            return web.Response(status=403, headers={"X-Error-Code": "GatedRepo"})
        data = self.files[name]
        large = len(data) > 1000
        etag = hashlib.sha256(data).hexdigest() if large else hashlib.sha1(data).hexdigest()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if large:
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(data))}
        if request.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(len(data))})
        span = request.headers.get("Range", "")
        self.asked.append((name, span))
        if name in self.refuse:
            return web.Response(status=503)
        start = int(span.removeprefix("bytes=").split("-")[0]) if span else 0
        part = data[start:]
        if span:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        answer = web.StreamResponse(status=206 if span else 200, headers=headers)
        answer.content_length = len(part)
        await answer.prepare(request)
        if name in self.cut:
            self.cut.remove(name)
            await answer.write(part[: len(part) // 2])
            await asyncio.sleep(0.1)  # until the half has left
            assert request.transport is not None
            request.transport.close()
            return answer
        if name in self.hang:
            await answer.write(part[: len(part) // 2])
            self.hanging.set()
            await self.released.wait()
            return answer
        await answer.write(part)
        return answer

    def refusal(self) -> web.Response:
        headers = {"X-Error-Code": self.error_code} if self.error_code else {}
        return web.json_response({"error": "no"}, status=self.status, headers=headers)


def lfs(data: bytes) -> dict[str, Any]:
    oid = hashlib.sha256(data).hexdigest()
    return {"oid": oid, "sha256": oid, "size": len(data), "pointerSize": 134}


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    served = Hub(files=dict(FILES))
    app = web.Application()
    app.router.add_get("/api/models/org/tiny/tree/{revision}", served.tree)
    app.router.add_get("/api/models/org/tiny/revision/{revision}", served.info)
    app.router.add_get("/api/models/org/tiny", served.info)
    app.router.add_route("*", "/org/tiny/resolve/{revision}/{name:.*}", served.file)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    served.url = f"http://{host}:{port}"
    yield served
    served.released.set()
    await runner.cleanup()
