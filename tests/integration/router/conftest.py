"""A router process of its own for each test, and upstreams for it to route to.

Every test runs twice: with the fast path, and with aiohttp alone. Both must answer alike.
"""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDict

from gpuserve import jsonvalues
from gpuserve.plan import Capabilities
from gpuserve.profile.spec import RoutingSpec
from gpuserve.routing.table import RoutingTable, Upstream
from gpuserve.rundir import RunDir
from tests.integration.router.fake_upstream import FakeUpstream

ROUTES = RoutingSpec(code="coder", general="chat", default="chat")
CODE = "Write a Python function that reverses a linked list"
GENERAL = "Tell me a story about a dragon and a birthday party"


@dataclass
class Box:
    """A run directory, a listening socket, and the worker processes that share it."""

    run_dir: RunDir
    stack: AsyncExitStack
    listening: socket.socket
    table: RoutingTable
    fast: bool = True
    workers: dict[int, asyncio.subprocess.Process] = field(default_factory=dict)
    upstreams: dict[str, FakeUpstream] = field(default_factory=dict)
    http: Any = None

    @property
    def url(self) -> str:
        host, port = self.listening.getsockname()
        return f"http://{host}:{port}"

    async def upstream(self, name: str) -> FakeUpstream:
        fake = FakeUpstream(name=name, socket=self.run_dir.engine_socket(name))
        await fake.start()
        self.upstreams[name] = fake
        self.stack.push_async_callback(fake.close)
        return fake

    def engine(self, name: str, **fields: Any) -> Upstream:
        given: dict[str, Any] = {
            "names": (name,),
            "url": "http://localhost",
            "socket": str(self.run_dir.engine_socket(name)),
            "state": "Ready",
            "routable": True,
            "capabilities": Capabilities(chat=True, max_model_len=4096),
        }
        given |= fields
        # An engine that was started with today's profile answers to all of its names.
        return Upstream(name=name, **({"served_names": given["names"]} | given))

    def write(self, *upstreams: Upstream, **fields: Any) -> None:
        """Replace routing.json as the controller does."""
        self.table = replace(
            self.table, upstreams=upstreams, generation=self.table.generation + 1, **fields
        )
        fresh = self.run_dir.path / "routing.new"
        fresh.write_bytes(jsonvalues.dumps(self.table))
        fresh.replace(self.run_dir.routing)

    async def worker(self, slot: int = 1) -> asyncio.subprocess.Process:
        """Start a worker and return once it accepts connections."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gpuserve.router",
            *([] if self.fast else ["--aiohttp-only"]),
            str(self.run_dir.path),
            str(slot),
            stdin=self.listening.fileno(),
            stderr=asyncio.subprocess.PIPE,
        )
        self.workers[slot] = process
        self.stack.push_async_callback(_end, process)
        async with asyncio.timeout(20):
            while not await self._answers(slot):
                assert process.returncode is None, await _said(process)
                await asyncio.sleep(0.02)
        return process

    async def control(self, method: str, path: str, slot: int = 1) -> Any:
        connector = aiohttp.UnixConnector(str(self.run_dir.router_socket(slot)))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, f"http://localhost{path}") as answer,
        ):
            return await answer.json()

    async def reload(self, slot: int = 1) -> int:
        answer = await self.control("POST", "/reload", slot)
        generation: int = answer["generation"]
        return generation

    async def post(self, path: str, **kwargs: Any) -> "Answer":
        async with self.http.post(self.url + path, **kwargs) as answer:
            return Answer(answer.status, CIMultiDict(answer.headers), await answer.read())

    async def get(self, path: str) -> "Answer":
        async with self.http.get(self.url + path) as answer:
            return Answer(answer.status, CIMultiDict(answer.headers), await answer.read())

    async def chat(self, text: str = GENERAL, **fields: Any) -> "Answer":
        body = {"messages": [{"role": "user", "content": text}], **fields}
        return await self.post("/v1/chat/completions", json=body)

    async def _answers(self, slot: int) -> bool:
        try:
            await self.control("GET", "/upstreams", slot)
        except (aiohttp.ClientError, OSError):
            return False
        return True


@dataclass
class Answer:
    status: int
    headers: CIMultiDict[str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def told(self, what: str) -> str | None:
        return self.headers.get(f"x-gpuserve-{what}")


async def _said(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    return (await process.stderr.read()).decode()


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    said = await _said(process)
    await process.wait()
    assert "Traceback" not in said, said


@pytest.fixture
def short_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose path is short enough for Unix sockets to lie in it."""
    return tmp_path_factory.mktemp("r")


@pytest.fixture(params=[True, False], ids=["fast", "aiohttp"])
async def box(short_dir: Path, request: pytest.FixtureRequest) -> AsyncIterator[Box]:
    """A run directory and a listening socket; no worker and no upstream yet."""
    run_dir = RunDir(short_dir)
    for directory in (run_dir.engine_socket("x").parent, run_dir.router_socket(0).parent):
        directory.mkdir(parents=True, exist_ok=True)
    listening = socket.create_server(("127.0.0.1", 0))
    async with AsyncExitStack() as stack:
        stack.callback(listening.close)
        table = RoutingTable(instance="test", generation=0, routing=ROUTES, upstreams=())
        box = Box(
            run_dir=run_dir, stack=stack, listening=listening, table=table, fast=request.param
        )
        box.http = await stack.enter_async_context(aiohttp.ClientSession())
        yield box


@pytest.fixture
async def pair(box: Box) -> Box:
    """Coder and chat, both ready, behind one worker."""
    for name in ("coder", "chat"):
        await box.upstream(name)
    box.write(box.engine("coder", names=("coder", "deepseek-coder")), box.engine("chat"))
    await box.worker()
    return box


def until(what: Callable[[], bool]) -> Any:
    """Wait for *what* to become true; fails after 10 s."""

    async def waiting() -> None:
        async with asyncio.timeout(10):
            while not what():
                await asyncio.sleep(0.01)

    return waiting()
