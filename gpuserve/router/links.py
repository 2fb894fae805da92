"""Connections to the upstreams, what went over them, and which of them refuse.

An idle connection is given up after less time than the server keeps it, and a request that meets
one just closed is sent once more on a fresh connection: the engine never read it
(https://github.com/vllm-project/vllm/issues/18472).
"""

import asyncio
import io
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDict
from yarl import URL

from gpuserve.routing.table import RoutingTable, Upstream

# What servers keep an idle connection for who do not say: vLLM's and uvicorn's default
# (vllm/envs.py, VLLM_HTTP_TIMEOUT_KEEP_ALIVE, 0.32), and of which we keep it this part.
_USUAL_S = 5.0
_PART = 0.7
CONNECT_TIMEOUT_S = 3.0
# How long an upstream that refused a connection is passed over.
DARK_S = 1.0
# aiohttp warns about larger bodies given as bytes, which it writes in one go.
_ONE_WRITE_BYTES = 1 << 20
# Only what the client sent; aiohttp would add these.
_NO_HEADERS_OF_ITS_OWN = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")

_log = logging.getLogger("gpuserve.router")


def keep_s(upstream: Upstream) -> float:
    """Return for how long an idle connection to *upstream* is kept."""
    told = upstream.keepalive_s
    return _PART * (_USUAL_S if told is None else told)


class Refused(Exception):
    """The upstream takes no connections; nothing was sent."""


class Died(Exception):
    """The upstream closed the connection, or broke the protocol, before its answer began."""


@dataclass(slots=True)
class Tally:
    """What went to one upstream since this process began.

    `dialled` and `reused` count the connections that requests went over, `retries` the requests
    that met one just closed and were sent once more.
    """

    in_flight: int = 0
    bytes: int = 0
    requests: int = 0
    failures: int = 0
    dialled: int = 0
    reused: int = 0
    retries: int = 0


class Link:
    """The connections to one upstream at one address."""

    def __init__(self, upstream: Upstream, tally: Tally) -> None:
        self.name = upstream.name
        self.address = _address(upstream)
        self.tally = tally
        self.in_flight = 0
        self._base = upstream.url.rstrip("/")
        self._kept = _session(upstream, keep=True)
        self._fresh = _session(upstream, keep=False)

    async def send(
        self, method: str, path: str, headers: CIMultiDict[str], body: bytes
    ) -> aiohttp.ClientResponse:
        """Send one request and return the answer once its head is there.

        Raises Refused when there is no connection to be had within CONNECT_TIMEOUT_S, Died when
        it ends before the answer begins. The caller closes or releases the answer.
        """
        met = SimpleNamespace(reused=False)
        url = self._url(path)
        try:
            answer = await _request(self._kept, method, url, headers, body, met)
            self._count(met)
            return answer  # noqa: TRY300
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if not _closed_while_idle(error, met):
                raise _named(error) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _named(error) from error
        self._count(met)
        self.tally.retries += 1
        self.tally.dialled += 1
        try:
            return await _request(self._fresh, method, url, headers, body, met)
        except (aiohttp.ClientError, TimeoutError) as error:
            # Never Refused: perhaps it was this request that the engine died of, and then the
            # next one must not be asked.
            raise Died(f"{type(error).__name__}: {error}") from error

    def _count(self, met: SimpleNamespace) -> None:
        if met.reused:
            self.tally.reused += 1
        else:
            self.tally.dialled += 1

    def begin(self) -> None:
        """Count a request as in flight."""
        self.in_flight += 1
        self.tally.in_flight += 1
        self.tally.requests += 1

    def end(self) -> None:
        """Count a request as over."""
        self.in_flight -= 1
        self.tally.in_flight -= 1

    async def close(self) -> None:
        """Close every connection."""
        await self._kept.close()
        await self._fresh.close()

    def _url(self, path: str) -> URL:
        # A server elsewhere may be given with the /v1 that OpenAI's clients want in a base URL.
        base = self._base
        if base.endswith("/v1") and path.startswith("/v1/"):
            base = base[: -len("/v1")]
        return URL(base + path, encoded=True)


class Links:
    """The links to every upstream of the table in force."""

    def __init__(self) -> None:
        self._links: dict[str, Link] = {}
        self._retired: set[Link] = set()
        self._dark_until: dict[str, float] = {}
        self.any_dark = False  # then no upstream refused not long ago
        self._told: set[str] = set()
        self.tallies: dict[str, Tally] = {}

    def to(self, upstream: Upstream) -> Link:
        """Return the link to *upstream*, new where its address changed."""
        link = self._links.get(upstream.name)
        if link is not None and link.address == _address(upstream):
            return link
        if link is not None:
            self._retired.add(link)
        tally = self.tallies.setdefault(upstream.name, Tally())
        self._links[upstream.name] = link = Link(upstream, tally)
        return link

    def darken(self, name: str, why: str) -> None:
        """Pass over the upstream *name* for DARK_S; said once until it answers again."""
        self.any_dark = True
        self._dark_until[name] = asyncio.get_running_loop().time() + DARK_S
        if name not in self._told:
            self._told.add(name)
            _log.warning("%s takes no connections (%s)", name, why)

    def lighten(self, name: str) -> None:
        """Note that the upstream *name* answers."""
        if name in self._told:
            self._told.discard(name)
            _log.warning("%s takes connections again", name)

    def load(self) -> dict[str, int]:
        """Return how many requests of this process each upstream has in flight."""
        return {name: tally.in_flight for name, tally in self.tallies.items()}

    def dark(self) -> frozenset[str]:
        """Return the upstreams that refused a moment ago."""
        if not self._dark_until:
            return frozenset()
        now = asyncio.get_running_loop().time()
        self._dark_until = {n: t for n, t in self._dark_until.items() if t > now}
        self.any_dark = bool(self._dark_until)
        return frozenset(self._dark_until)

    async def forget(self, table: RoutingTable) -> None:
        """Give up the links that *table* has no use for, once nothing is in flight on them."""
        names = {upstream.name for upstream in table.upstreams}
        for name in [n for n in self._links if n not in names]:
            self._retired.add(self._links.pop(name))
        await _close(link for link in set(self._retired) if not link.in_flight)
        self._retired = {link for link in self._retired if link.in_flight}

    async def close(self) -> None:
        """Close everything."""
        await _close([*self._links.values(), *self._retired])


def _address(upstream: Upstream) -> tuple[str, str | None, float | None]:
    return upstream.url, upstream.socket, upstream.keepalive_s


async def _close(links: Iterable[Link]) -> None:
    for link in links:
        await link.close()


class _Receiver(ResponseHandler):
    """aiohttp's, which forgets who reads a body whose framing breaks in a later packet."""

    def set_exception(self, exc: Any, *args: Any) -> None:
        super().set_exception(exc, *args)
        payload = self._payload
        if payload is not None and not payload.is_eof() and payload.exception() is None:
            payload.set_exception(aiohttp.ClientPayloadError(f"{type(exc).__name__}: {exc}"))


def _session(upstream: Upstream, *, keep: bool) -> aiohttp.ClientSession:
    options: dict[str, Any] = {"limit": 0, "force_close": not keep}
    if keep:
        options["keepalive_timeout"] = keep_s(upstream)
    connector: aiohttp.BaseConnector
    if upstream.socket is not None:
        connector = aiohttp.UnixConnector(upstream.socket, **options)
    else:
        connector = aiohttp.TCPConnector(**options)
    loop = asyncio.get_running_loop()
    # As in 3.14.
    connector._factory = partial(_Receiver, loop)  # type: ignore[assignment] # noqa: SLF001
    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(_note_reuse)
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=_NO_HEADERS_OF_ITS_OWN,
        # Silence for minutes is what the prefill of a long prompt looks like.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
        trace_configs=[trace],
    )


async def _note_reuse(
    _session: aiohttp.ClientSession,
    context: SimpleNamespace,
    _params: aiohttp.TraceConnectionReuseconnParams,
) -> None:
    context.trace_request_ctx.reused = True


async def _request(
    session: aiohttp.ClientSession,
    method: str,
    url: URL,
    headers: CIMultiDict[str],
    body: bytes,
    met: SimpleNamespace,
) -> aiohttp.ClientResponse:
    data: Any = body if len(body) <= _ONE_WRITE_BYTES else io.BytesIO(body)
    return await session.request(
        method,
        url,
        headers=headers,
        data=data if body or method == "POST" else None,
        allow_redirects=False,
        trace_request_ctx=met,
    )


def _closed_while_idle(error: aiohttp.ClientError, met: SimpleNamespace) -> bool:
    if isinstance(error, aiohttp.ClientConnectorError) or not met.reused:
        return False
    # With half a head of an answer in hand the engine has read the request.
    return not isinstance(getattr(error, "message", None), aiohttp.http.RawResponseMessage)


def _named(error: Exception) -> Refused | Died:
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return Refused(str(error))
    return Died(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
