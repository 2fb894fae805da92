"""Weights that are not here are fetched before an engine's turn, and outside of its patience."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from tests.e2e.instance import until
from tests.integration.fake_hub import FILES, Hub, hub
from tests.integration.instance.box import CONFIG, Box

__all__ = ["hub"]  # the fixture


@pytest.fixture
def remote(hub: Hub, box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    """An instance whose coder is `org/tiny` on the hub; general is a directory."""
    hub.files = FILES | {"config.json": json.dumps(CONFIG).encode()}
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    box.models["coder"] = "org/tiny"
    return box


async def test_a_model_on_the_hub_is_fetched_and_then_started(remote: Box, hub: Hub) -> None:
    await asyncio.to_thread(remote.start)
    assert "model-00001-of-00002.safetensors" in hub.fetched()
    assert (await asyncio.to_thread(remote.chat, "coder")).status == 200
    said = await asyncio.to_thread(remote.end)
    assert said.index("fetching the weights of org/tiny") < said.index("coder: Queued -> Starting")


async def test_the_others_start_while_weights_are_fetched(remote: Box, hub: Hub) -> None:
    hub.hang = {"model-00002-of-00002.safetensors"}
    remote.engine = {"start_timeout_s": 2.0}
    await asyncio.to_thread(remote.start, wait=False)
    await asyncio.wait_for(hub.hanging.wait(), 60)
    await asyncio.to_thread(
        until, lambda: bool(_model(remote, "general")["ready"]), "general serves"
    )
    coder = await asyncio.to_thread(_model, remote, "coder")
    assert coder["state"] == "Queued"
    assert "fetching" in str(coder["reason"])
    await asyncio.to_thread(remote.end)
    remote.must_be_gone()


async def test_weights_that_are_refused_end_in_failed_with_the_reason(
    remote: Box, hub: Hub
) -> None:
    hub.gated = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
    await asyncio.to_thread(remote.start, wait=False)
    await asyncio.to_thread(
        until, lambda: _model(remote, "coder")["state"] == "Failed", "the fetch has failed"
    )
    coder = await asyncio.to_thread(_model, remote, "coder")
    assert "org/tiny" in str(coder["reason"])
    assert (await asyncio.to_thread(remote.chat, "coder")).status == 503
    await asyncio.to_thread(
        until, lambda: bool(_model(remote, "general")["ready"]), "general serves"
    )


async def test_a_fetch_that_is_killed_is_begun_again(remote: Box, hub: Hub) -> None:
    hub.hang = {"model-00002-of-00002.safetensors"}
    await asyncio.to_thread(remote.start, wait=False)
    await asyncio.wait_for(hub.hanging.wait(), 60)
    hub.hang = set()
    os.kill(remote.pid_of_command("pull"), signal.SIGKILL)
    hub.released.set()
    await asyncio.to_thread(until, lambda: bool(_model(remote, "coder")["ready"]), "coder serves")


def _model(box: Box, name: str) -> dict[str, object]:
    """Return one model's status, an empty one while nothing answers."""
    done = box.instance.gpuserve("status", "--json")
    if done.returncode not in (0, 1) or not done.stdout:
        return {"state": "none", "ready": False, "reason": ""}
    rows = json.loads(done.stdout)["models"]
    return dict(next(row for row in rows if row["name"] == name))
