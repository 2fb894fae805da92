"""Several router processes on one socket: holder, workers, reloads, and the official client."""

import asyncio
import re
import signal
import sys
from collections import Counter
from typing import Any

import openai
import psutil
import pytest

from gpuserve.router.worker import Worker
from tests.integration.router.conftest import CODE, GENERAL, Box, until
from tests.integration.router.raw import Wire, ask, request, wire
from tests.unit.routing.prompts import an_unsure_prompt


async def test_the_holder_keeps_the_socket_open_and_nothing_else(box: Box) -> None:
    holder = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gpuserve.router",
        str(box.run_dir.path),
        "0",
        stdin=box.listening.fileno(),
    )
    await box.upstream("chat")
    box.write(box.engine("chat"))
    first = await box.worker(1)
    url = box.url
    box.listening.close()
    first.kill()
    await first.wait()
    # Nobody accepts, and yet a connection is not refused: it waits for the next worker.
    host, port = url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.close()
    holder.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(holder.wait(), 10) == -signal.SIGTERM


async def test_two_workers_share_a_socket_and_their_metrics_add_up(pair: Box) -> None:
    await pair.worker(2)
    for _ in range(12):
        # A connection of its own each, so that either may take it.
        await pair.post("/v1/completions", json={"model": "chat"}, headers={"Connection": "close"})
    text = (await pair.get("/metrics")).body.decode()
    assert "gpuserve_router_workers 2.0" in text
    answered = re.search(
        r'gpuserve_router_requests_total\{model="chat",route="explicit",status="2xx"\} (\S+)', text
    )
    assert answered is not None
    assert float(answered[1]) == 12
    assert "gpuserve_router_decision_seconds_count 12.0" in text
    assert text.count("# TYPE gpuserve_router_requests_total counter") == 1


async def test_an_upgrade_refuses_no_connection_and_cuts_no_stream(pair: Box) -> None:
    engine = pair.upstreams["coder"]
    first = pair.workers[1]
    stream = await wire(pair, request(b'{"model":"coder","stream":true}'))
    engine.chunks.put_nowait(b"data: 1\n\n")
    await stream.until(b"data: 1\n\n\r\n")
    kept = await wire(pair, request())
    assert (await kept.reply()).status == 200
    statuses: Counter[int] = Counter()

    async def newcomers() -> None:
        while True:
            talk = await wire(pair, request())
            statuses[(await talk.reply()).status] += 1
            talk.writer.close()

    busy = [asyncio.create_task(newcomers()) for _ in range(4)]
    await until(lambda: statuses[200] > 20)
    # As the controller does: the new one accepts, then the old one is told to finish.
    await pair.worker(2)
    await pair.control("POST", "/drain")
    assert await kept.closed()
    sofar = statuses[200]
    await until(lambda: statuses[200] > sofar + 100)
    for task in busy:
        assert not task.done()  # else it failed
        task.cancel()
    assert set(statuses) == {200}
    assert first.returncode is None
    engine.chunks.put_nowait(b"data: 2\n\n")
    engine.chunks.put_nowait(None)
    assert await stream.body("200", {"transfer-encoding": "chunked"}) == b"data: 2\n\n"
    assert await asyncio.wait_for(first.wait(), 10) == 0


async def test_a_worker_that_is_killed_loses_its_own_connections_only(pair: Box) -> None:
    engine = pair.upstreams["coder"]
    engine.gate.clear()
    await pair.worker(2)

    async def in_flight(slot: int) -> int:
        figures = (await pair.control("GET", "/upstreams", slot))["upstreams"]
        return int(figures["coder"]["in_flight"])

    waiting: dict[int, list[Wire]] = {1: [], 2: []}
    while not (waiting[1] and waiting[2]):
        before = {slot: await in_flight(slot) for slot in waiting}
        seen = len(engine.seen)
        talk = await wire(pair, request(b'{"model":"coder"}'))
        await until(lambda seen=seen: len(engine.seen) > seen)  # type: ignore[misc]
        (mine,) = [slot for slot, count in before.items() if await in_flight(slot) > count]
        waiting[mine].append(talk)
        assert len(engine.seen) < 200, "one worker takes every connection"
    pair.workers[1].kill()
    await pair.workers[1].wait()
    for talk in waiting[1]:
        assert await talk.closed()
    assert (await ask(pair, request())).status == 200
    engine.gate.set()
    for talk in waiting[2]:
        assert (await talk.reply()).status == 200
    text = (await pair.get("/metrics")).body.decode()
    assert "gpuserve_router_workers 1.0" in text


async def test_metrics_tell_what_the_router_adds_and_how_it_reaches_its_upstreams(
    pair: Box,
) -> None:
    for _ in range(3):
        await pair.chat(model="chat")
    text = (await pair.get("/metrics")).body.decode()
    kept = "gpuserve_router_upstream_connections_total"
    assert f'{kept}{{kind="new",upstream="chat"}} 1.0' in text
    assert f'{kept}{{kind="reused",upstream="chat"}} 2.0' in text
    assert 'gpuserve_router_retries_total{upstream="chat"} 0.0' in text
    assert "gpuserve_router_added_seconds_count 3.0" in text
    assert "gpuserve_router_decision_seconds_count 3.0" in text


async def test_metrics_leave_out_a_worker_that_was_killed(pair: Box) -> None:
    second = await pair.worker(2)
    second.kill()
    await second.wait()
    assert "gpuserve_router_workers 1.0" in (await pair.get("/metrics")).body.decode()


async def test_a_replaced_table_is_in_force_after_a_poke(pair: Box) -> None:
    await pair.upstream("new")
    pair.write(pair.engine("new"), pair.engine("chat"))
    assert await pair.reload() == 2
    assert (await pair.chat(model="new")).told("model") == "new"
    assert (await pair.chat(model="coder")).status == 404


async def test_a_replaced_table_is_in_force_soon_without_a_poke(pair: Box) -> None:
    pair.write(pair.engine("chat", names=("chat", "later")))
    async with asyncio.timeout(10):
        while (await pair.chat(model="later")).status == 404:
            await asyncio.sleep(0.05)
    assert (await pair.chat(model="later")).told("model") == "chat"


async def test_a_broken_table_changes_nothing(pair: Box) -> None:
    pair.run_dir.routing.write_bytes(b'{"instance": ')
    assert await pair.reload() == 1
    assert (await pair.chat(model="coder")).status == 200


async def test_the_control_socket_reports_what_went_to_each_upstream(pair: Box) -> None:
    await pair.chat(model="coder")
    figures = (await pair.control("GET", "/upstreams"))["upstreams"]
    assert figures["coder"]["requests"] == 1
    assert figures["coder"]["bytes"] > 0
    assert figures["chat"] == {"in_flight": 0, "bytes": 0, "requests": 0, "failures": 0}


async def test_unsure_verdicts_are_counted_and_go_to_the_default(pair: Box) -> None:
    answer = await pair.chat(an_unsure_prompt())
    assert answer.told("model") == "chat"
    text = (await pair.get("/metrics")).body.decode()
    assert "gpuserve_router_unsure_total 1.0" in text


async def test_the_official_client_works_streaming_and_not(pair: Box) -> None:
    async with openai.AsyncOpenAI(base_url=f"{pair.url}/v1", api_key="none") as client:
        models = [model.id async for model in client.models.list()]
        assert "auto" in models
        whole = await client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": GENERAL}]
        )
        assert whole.choices[0].message.content == "hello from chat"
        engine = pair.upstreams["coder"]
        stream = await client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": CODE}], stream=True
        )
        engine.chunks.put_nowait(
            b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"coder",'
            b'"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
        )
        said = await anext(stream)
        assert said.choices[0].delta.content == "hi"
        engine.chunks.put_nowait("die")
        with pytest.raises(openai.APIError, match="the engine of coder went away"):
            await anext(stream)
        with pytest.raises(openai.NotFoundError, match="known models"):
            await client.chat.completions.create(model="nope", messages=[])


async def test_a_worker_ends_with_its_parent(box: Box) -> None:
    code = (
        "import subprocess, sys\n"
        f"p = subprocess.Popen([sys.executable, '-m', 'gpuserve.router', {str(box.run_dir.path)!r},"
        " '1'], stdin=0)\n"
        "print(p.pid, flush=True)\n"
        "p.wait()\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdin=box.listening.fileno(), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    async with asyncio.timeout(20):
        while not box.run_dir.router_socket(1).exists():
            await asyncio.sleep(0.02)
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(10):
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.02)


class _Late(Worker):
    """A worker whose table is replaced while it gets ready to be told of that."""

    def __init__(self, box: Box) -> None:
        super().__init__(box.run_dir, 1, fast=box.fast)
        self._box = box

    async def _open_control(self, inside: Any) -> asyncio.Server:
        self._box.write(self._box.engine("new"))
        return await super()._open_control(inside)


async def test_a_worker_that_could_not_be_told_of_a_table_has_it_when_it_can(box: Box) -> None:
    box.write(box.engine("old"))
    worker = _Late(box)
    serving = asyncio.create_task(worker.serve(box.listening))
    await until(lambda: box.run_dir.router_socket(1).exists())
    assert list((await box.control("GET", "/upstreams"))["upstreams"]) == ["new"]
    worker.drain()
    await asyncio.wait_for(serving, 10)
