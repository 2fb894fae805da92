"""One request to one upstream and its answer back, chunk by chunk as it comes.

Nothing is kept that was sent, and nothing is asked of the upstream that the client does not
take: aiohttp stops reading the upstream while the client's buffer is full.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from gpuserve.router import headers
from gpuserve.router.apierrors import Api, error_event
from gpuserve.router.intake import Held
from gpuserve.router.links import Died, Link
from gpuserve.router.metrics import Metrics
from gpuserve.routing.choose import Choice, Refusal

# An answer of known length up to this is read whole, so that it leaves in one write and an
# engine that dies in the middle of it is still a 502.
_WHOLE_BYTES = 64 << 10
# A longer answer is passed on in pieces of at most this: what a client that reads nothing costs.
_PIECE_BYTES = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A request on its way: who answers, what is sent, and how errors must look.

    `extra` are headers for the client.
    """

    choice: Choice
    held: Held
    api: Api
    request_id: str
    extra: Mapping[str, str]
    began: float  # time.perf_counter() at the last byte of the request


async def forward(
    request: web.BaseRequest, passage: Passage, link: Link, metrics: Metrics
) -> web.StreamResponse:
    """Return the upstream's answer, already sent.

    Raises links.Refused when the upstream takes no connections (nothing was sent: another may
    be asked) and links.Died when it ended before its answer began.
    """
    model = passage.choice.model
    link.begin()
    answer: aiohttp.ClientResponse | None = None
    try:
        outgoing = headers.towards_upstream(request.headers)
        outgoing["x-request-id"] = passage.request_id
        metrics.added_s.observe(time.perf_counter() - passage.began)
        answer = await link.send(
            request.method, request.rel_url.raw_path_qs, outgoing, passage.held.sent
        )
        if answer.status < 200:  # nobody asked to switch protocols
            answer.close()
            raise Died(f"it answered {answer.status}")  # noqa: TRY301
        passage.held.let_go()
        metrics.first_byte_s.labels(model).observe(time.perf_counter() - passage.began)
        return await _pass_on(request, passage, link, metrics, answer)
    except asyncio.CancelledError:
        metrics.aborts.labels(model, "client").inc()
        raise
    except Died:
        link.tally.failures += 1
        metrics.aborts.labels(model, "upstream").inc()
        raise
    finally:
        if answer is not None:
            # A connection whose answer was not read to its end is closed by this: so does the
            # engine learn that nobody listens any more.
            answer.release()
        link.end()


async def _pass_on(
    request: web.BaseRequest,
    passage: Passage,
    link: Link,
    metrics: Metrics,
    answer: aiohttp.ClientResponse,
) -> web.StreamResponse:
    sent = headers.towards_client(answer.headers)
    sent.update(headers.routed(passage.choice))
    sent["x-request-id"] = passage.request_id
    sent.update(passage.extra)
    sent.setdefault("Server", headers.SERVER)
    length = answer.content_length
    if length is not None and length <= _WHOLE_BYTES and request.method != "HEAD":
        body = await _whole(answer)
        link.tally.bytes += len(body)
        metrics.answered(passage.choice, answer.status)
        return web.Response(status=answer.status, reason=answer.reason, headers=sent, body=body)
    response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=sent)
    last = b"\n\n"
    metrics.answered(passage.choice, answer.status)
    await response.prepare(request)
    while True:
        try:
            chunk = await answer.content.read(_PIECE_BYTES)
        except (aiohttp.ClientError, TimeoutError):
            link.tally.failures += 1
            metrics.aborts.labels(passage.choice.model, "upstream").inc()
            return await _cut(request, response, passage, last=last)
        if not chunk:
            break
        link.tally.bytes += len(chunk)
        try:
            await response.write(chunk)
        except ConnectionError:
            metrics.aborts.labels(passage.choice.model, "client").inc()
            raise
        last = chunk[-2:] if len(chunk) > 1 else last[-1:] + chunk
    await response.write_eof()
    return response


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    try:
        return await answer.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Died(str(error) or type(error).__name__) from error


async def _cut(
    request: web.BaseRequest,
    response: web.StreamResponse,
    passage: Passage,
    *,
    last: bytes,
) -> web.StreamResponse:
    """End an answer that the upstream did not finish, so that the client sees that it is cut."""
    if response.content_type == "text/event-stream":
        refusal = Refusal(
            status=502,
            code="upstream_died",
            message=f"the engine of {passage.choice.model} went away in the middle of this answer, "
            "which is not complete",
        )
        # A line that was cut must end before the event begins.
        await response.write(
            (b"" if last == b"\n\n" else b"\n\n") + error_event(passage.api, refusal)
        )
        response.force_close()
        await response.write_eof()
    elif request.transport is not None:
        request.transport.abort()
    return response
