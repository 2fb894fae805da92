"""Asks an engine how it is: `/health` for its word, `/metrics` for its work.

Neither generates a token or enters the users' queue.
"""

import asyncio
import math
import time
from contextlib import suppress
from typing import Literal

import aiohttp

from gpuserve.lifecycle.liveness import Reading

HEALTH_TIMEOUT_S = 5.0

Health = Literal["ok", "dead", "refused", "silent"]

# What changes when an engine works, in vLLM's V0 and V1 names; prometheus-client adds _total.
_PROGRESS = (
    "vllm:iteration_tokens_total_sum",
    "vllm:iteration_tokens_total_count",
    "vllm:generation_tokens_total",
    "vllm:prompt_tokens_total",
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
    "vllm:gpu_cache_usage_perc",
)
_RUNNING = "vllm:num_requests_running"
_CACHE_INFO = "vllm:cache_config_info"


class Probe:
    """Probes one engine over its Unix socket or its loopback port."""

    def __init__(self, *, socket: str | None, port: int | None) -> None:
        self._socket = socket
        self._base = "http://engine" if socket else f"http://127.0.0.1:{port}"
        self._session: aiohttp.ClientSession | None = None

    async def read(self) -> Reading:
        """Return one reading; takes at most HEALTH_TIMEOUT_S, never raises for the engine."""
        health, metrics = await asyncio.gather(self._health(), self._metrics())
        progress = _numbers(metrics) if metrics is not None else None
        return Reading(
            at_s=time.monotonic(),
            health=health,
            progress=tuple(progress.values()) if progress else None,
            running=int(progress.get(_RUNNING, 0)) if progress else 0,
        )

    async def cache_info(self) -> dict[str, str]:
        """Return the labels of vLLM's cache_config_info, what it allocated; {} if unknown."""
        for line in (await self._metrics() or "").splitlines():
            if line.startswith(_CACHE_INFO):
                return _labels(line)
        return {}

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _health(self) -> Health:
        try:
            async with self._open().get(f"{self._base}/health") as response:
                await response.read()
                return "ok" if response.status == 200 else "dead"
        except TimeoutError:  # first: it is an OSError too, and a busy engine is not a dead one
            return "silent"
        except aiohttp.ClientConnectorError:
            return "refused"
        except (aiohttp.ClientError, OSError):
            return "dead"

    async def _metrics(self) -> str | None:
        try:
            async with self._open().get(f"{self._base}/metrics") as response:
                return await response.text() if response.status == 200 else None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, LookupError):
            return None  # also a charset that nobody knows: it has no metrics for us

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = (
                aiohttp.UnixConnector(self._socket, force_close=True)
                if self._socket
                else aiohttp.TCPConnector(force_close=True)
            )
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=aiohttp.ClientTimeout(total=HEALTH_TIMEOUT_S)
            )
        return self._session


def _numbers(text: str) -> dict[str, float]:
    """Return the sums over labels of the metrics that tell progress."""
    found: dict[str, float] = {}
    for name in _PROGRESS:
        # Looked for as a whole: of a thousand lines, a handful matters.
        at = text.find(name)
        while at >= 0:
            end = text.find("\n", at)
            line = text[at:end] if end >= 0 else text[at:]
            if (at == 0 or text[at - 1] == "\n") and line[len(name) : len(name) + 1] in ("{", " "):
                with suppress(ValueError, IndexError):
                    value = float(line.rsplit(" ", 1)[1])
                    if math.isfinite(value):
                        found[name] = found.get(name, 0.0) + value
            at = text.find(name, at + len(name))
    return found


def _labels(line: str) -> dict[str, str]:
    inside = line[line.find("{") + 1 : line.rfind("}")]
    pairs = (pair.partition("=") for pair in inside.split('",'))
    return {key.strip(): value.strip().strip('"') for key, _, value in pairs if key.strip()}
