"""`gpuserve pull` against a hub that really listens: fetch, go on after a cut, refusals."""

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gpuserve.errors import ExitStatus, HostUnavailable
from gpuserve.machine.hub import Progress, Wanted, fetch
from gpuserve.machine.weights import weights_here
from tests.integration.fake_hub import SHARD, Hub, hub

__all__ = ["hub"]  # the fixture

WEIGHTS = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}


@dataclass
class Answer:
    status: int
    lines: list[dict[str, Any]]
    said: str


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "p.toml"
    path.write_text('[[model]]\nname = "tiny"\nmodel = "org/tiny"\n')
    return path


async def started(
    hub: Hub, profile: Path, *words: str, **variables: str
) -> asyncio.subprocess.Process:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gpuserve", "pull", str(profile), *words),
        # A shell ignores SIGINT in what it runs in the background, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={
            **kept,
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(profile.parent / "hf"),
            "NO_PROXY": "127.0.0.1",
            **variables,
        },
    )


async def pull(hub: Hub, profile: Path, *words: str, **variables: str) -> Answer:
    process = await started(hub, profile, *words, **variables)
    output, said = await process.communicate()
    assert process.returncode is not None
    lines = [json.loads(line) for line in output.splitlines()]
    return Answer(process.returncode, lines, said.decode())


async def test_it_fetches_what_vllm_reads_and_nothing_else(
    hub: Hub, profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = await pull(hub, profile, "--json")
    assert answer.status == ExitStatus.DONE, answer.said
    assert hub.fetched() == WEIGHTS | {
        "config.json",
        "tokenizer.json",
        "model.safetensors.index.json",
    }
    last = answer.lines[-1]
    assert last["state"] == "complete"
    assert last["done_bytes"] == last["total_bytes"] > len(SHARD)
    assert {line["state"] for line in answer.lines} == {"fetching", "complete"}
    monkeypatch.setenv("HF_HOME", str(profile.parent / "hf"))
    assert weights_here("org/tiny", None)


async def test_a_second_pull_asks_the_hub_nothing(hub: Hub, profile: Path) -> None:
    assert (await pull(hub, profile)).status == ExitStatus.DONE
    hub.asked.clear()
    answer = await pull(hub, profile, HF_HUB_OFFLINE="1")
    assert answer.status == ExitStatus.DONE, answer.said
    assert hub.asked == []
    assert "org/tiny is here" in answer.said


async def test_a_broken_connection_is_taken_up_where_it_broke(hub: Hub, profile: Path) -> None:
    # huggingface_hub writes what it receives in pieces of 10 MiB.
    hub.files["model-00001-of-00002.safetensors"] = bytes(24 << 20)
    hub.cut = {"model-00001-of-00002.safetensors"}
    answer = await pull(hub, profile)
    assert answer.status == ExitStatus.DONE, answer.said
    spans = [span for name, span in hub.asked if name == "model-00001-of-00002.safetensors"]
    assert len(spans) == 2
    assert int(spans[1].removeprefix("bytes=").split("-")[0]) > 0


async def test_after_a_failure_only_what_is_missing_is_fetched(hub: Hub, profile: Path) -> None:
    hub.refuse = {"model-00002-of-00002.safetensors"}
    answer = await pull(hub, profile, "--json")
    assert answer.status == ExitStatus.TEMPFAIL, answer.said
    assert answer.lines[-1]["state"] == "failed"
    assert answer.lines[-1]["message"]
    hub.refuse.clear()
    hub.asked.clear()
    assert (await pull(hub, profile)).status == ExitStatus.DONE
    assert hub.fetched() == {"model-00002-of-00002.safetensors"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_stopped_pull_ends_at_once_and_leaves_no_piece(
    hub: Hub, profile: Path, number: signal.Signals
) -> None:
    shard = "model-00001-of-00002.safetensors"
    hub.files[shard] = bytes(24 << 20)
    hub.hang = {shard}
    process = await started(hub, profile)
    async with asyncio.timeout(30):
        await hub.hanging.wait()
        process.send_signal(number)
        _, said = await process.communicate()
    assert process.returncode == ExitStatus.INTERRUPTED
    assert b"what is complete stays" in said
    assert b"Traceback" not in said
    blobs = profile.parent / "hf" / "hub" / "models--org--tiny" / "blobs"
    assert list(blobs.glob("*.incomplete")) == []


async def test_offline_it_says_what_is_missing_and_what_to_run(hub: Hub, profile: Path) -> None:
    answer = await pull(hub, profile, "--json", HF_HUB_OFFLINE="1")
    assert answer.status == ExitStatus.UNAVAILABLE
    message = answer.lines[-1]["message"]
    assert '"org/tiny" is not in the cache' in message
    assert "HF_HUB_OFFLINE" in message
    assert "hf download org/tiny" in message
    assert hub.asked == []


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (404, "RepoNotFound", "no repository"),
        (404, "RevisionNotFound", "no revision"),
        (403, "GatedRepo", "gated"),
        (401, "GatedRepo", "gated"),
        (401, "", "does not exist, or is private"),
        (403, "", "refuses"),
    ],
)
async def test_what_no_retry_can_change_is_unavailable(
    hub: Hub, profile: Path, status: int, code: str, said: str
) -> None:
    hub.status, hub.error_code = status, code
    answer = await pull(hub, profile)
    assert answer.status == ExitStatus.UNAVAILABLE, answer.said
    assert said in answer.said
    assert "Traceback" not in answer.said


@pytest.mark.slow  # huggingface_hub tries for 20 s
async def test_a_hub_that_is_not_there_is_for_later(hub: Hub, profile: Path) -> None:
    hub.url = "http://127.0.0.1:9"  # the discard port: nobody listens
    answer = await pull(hub, profile)
    assert answer.status == ExitStatus.TEMPFAIL, answer.said
    assert "Traceback" not in answer.said


async def test_a_repository_without_weights_is_said(hub: Hub, profile: Path) -> None:
    hub.files = {"config.json": b"{}", "model.Q4_K_M.gguf": SHARD}
    answer = await pull(hub, profile)
    assert answer.status == ExitStatus.UNAVAILABLE
    assert "holds no weights" in answer.said


async def test_a_disk_too_small_is_said_before_anything_large_is_fetched(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    wanted = Wanted(repository="org/tiny", endpoint=hub.url)
    seen: list[Progress] = []
    with pytest.raises(HostUnavailable, match="more on disk") as caught:
        await asyncio.to_thread(fetch, wanted, seen.append, free=lambda _: 1000)
    assert str(tmp_path / "hf") in caught.value.message
    assert not hub.fetched() & WEIGHTS
    assert seen == []


async def test_a_model_that_the_profile_does_not_have_is_a_usage_error(
    hub: Hub, profile: Path
) -> None:
    answer = await pull(hub, profile, "--model", "other")
    assert answer.status == ExitStatus.USAGE
    assert "known: tiny" in answer.said


@pytest.mark.parametrize("place", ["./weights", "s3://bucket/model"])
async def test_what_is_not_on_the_hub_is_not_looked_for_there(
    hub: Hub, profile: Path, place: str
) -> None:
    profile.write_text(profile.read_text().replace("org/tiny", place))
    answer = await pull(hub, profile, HF_HUB_OFFLINE="1")
    assert answer.status == ExitStatus.DONE, answer.said
    assert "not on the hub" in answer.said


async def test_dummy_weights_are_not_fetched(hub: Hub, profile: Path) -> None:
    profile.write_text(profile.read_text() + 'load_format = "dummy"\n')
    assert (await pull(hub, profile)).status == ExitStatus.DONE
    assert "config.json" in hub.fetched()
    assert not hub.fetched() & WEIGHTS


async def test_progress_in_a_log_says_how_much_is_to_fetch(hub: Hub, profile: Path) -> None:
    answer = await pull(hub, profile)
    assert "GiB to fetch" in answer.said
    assert answer.lines == []
