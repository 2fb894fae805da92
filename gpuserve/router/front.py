"""The public endpoint: which path is what, and one answer for each request."""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from urllib.parse import unquote

from aiohttp import web

from gpuserve.profile.spec import RoutingSpec
from gpuserve.router import cors, headers, metrics
from gpuserve.router.apierrors import Api, api_of, error_response
from gpuserve.router.aside import ASIDE_BYTES, MOST_OBJECTS, Aside, Lost
from gpuserve.router.decide import Asked, Decided, decide
from gpuserve.router.forward import Passage, forward
from gpuserve.router.intake import Held, check_head, read_body
from gpuserve.router.limits import Bodies, TurnedAway
from gpuserve.router.links import Died, Links, Refused
from gpuserve.router.tablefile import TableFile
from gpuserve.router.tokens import prompt_tokens
from gpuserve.routing.body import Dense
from gpuserve.routing.choose import Refusal
from gpuserve.routing.listing import model_cards, readiness
from gpuserve.routing.table import RoutingTable

_log = logging.getLogger("gpuserve.router")

_OUTSIDE_V1 = frozenset(("/tokenize", "/detokenize", "/rerank", "/score"))
_POST_ONLY = _OUTSIDE_V1 | {
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/embeddings",
    "/v1/rerank",
    "/v1/score",
}
# An engine's adapters are its operator's business; no key guards these.
_WITHHELD = ("/v1/load_lora_adapter", "/v1/unload_lora_adapter")
_READ_ONLY = frozenset(("/healthz", "/readyz", "/metrics", "/v1/models"))
STARTING = Refusal(status=503, code="starting", message="gpuserve is starting", retry_after_s=1.0)

_NO_MODELS = RoutingTable(instance="", generation=0, routing=RoutingSpec(), upstreams=())


class Front:
    """Answers public requests by the table that *tables* holds at that moment."""

    def __init__(
        self,
        tables: TableFile,
        links: Links,
        bodies: Bodies,
        aside: Aside,
        counted: metrics.Metrics,
        all_metrics: Callable[[], Awaitable[str]],
    ) -> None:
        self._tables = tables
        self._links = links
        self._bodies = bodies
        self._aside = aside
        self._metrics = counted
        self._all_metrics = all_metrics
        self._created = int(time.time())
        self.draining = False
        self._own: dict[str, Callable[[], Awaitable[web.Response]]] = {
            "/healthz": self._health,
            "/readyz": self._ready,
            "/metrics": self._counted,
            "/v1/models": self._models,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; whatever goes wrong has the shape of the API that was called."""
        path = request.rel_url.raw_path
        page = cors.for_page(request.headers.get("origin"), self._table_or_empty().allowed_origins)
        try:
            check_head(request)
            response = await self._dispatch(request, path, page)
        except TurnedAway as error:
            # What follows cannot be told from the rest of this request.
            response = self._refused(request, api_of(path), error.refusal)
            response.force_close()
        except (ConnectionError, web.HTTPException):
            raise
        except Exception:  # noqa: BLE001 - logged with its traceback; the client gets a 500
            _log.exception("internal error at %s", path)
            refusal = Refusal(status=500, code="internal_error", message="internal error")
            response = self._refused(request, api_of(path), refusal)
        if not response.prepared:
            response.headers.update(page)
            response.headers.setdefault("Server", headers.SERVER)
        if self.draining:
            response.force_close()
        return response

    async def _dispatch(
        self, request: web.BaseRequest, path: str, page: Mapping[str, str]
    ) -> web.StreamResponse:
        if request.method == "OPTIONS":
            return self._options(request, path)
        own = self._own.get(path)
        card = path.startswith("/v1/models/")
        if own is not None or card:
            if request.method not in ("GET", "HEAD"):
                return self._wrong_method(request, path, "GET")
            return await own() if own is not None else self._model(request, path)
        if path in _POST_ONLY:
            if request.method != "POST":
                return self._wrong_method(request, path, "POST")
        elif not _passed_on(path):
            return self._unknown(request, path)
        return await self._route(request, path, page)

    def _options(self, request: web.BaseRequest, path: str) -> web.Response:
        """Say what may be done with *path*, to browsers in the words of CORS."""
        allow = _allowed(path)
        if allow is None:
            return self._unknown(request, path)
        told = {"Allow": allow}
        origin = request.headers.get("origin")
        if origin is not None and "access-control-request-method" in request.headers:
            if not cors.permits(origin, self._table_or_empty().allowed_origins):
                message = f"pages of {origin[:200]} may not call this endpoint; "
                message += "[server] allowed_origins in the profile says which may"
                refusal = Refusal(status=403, code="origin_not_allowed", message=message)
                return self._refused(request, api_of(path), refusal)
            told |= cors.preflight(request.headers.get("access-control-request-headers", ""))
        told["x-request-id"] = headers.request_id(request.headers)
        return web.Response(status=204, headers=told)

    async def _route(
        self, request: web.BaseRequest, path: str, page: Mapping[str, str]
    ) -> web.StreamResponse:
        api = api_of(path)
        table = self._tables.table
        if table is None:
            return self._refused(request, api, STARTING)
        with Held(self._bodies) as held:
            await read_body(request, table.limits, held)
            began = time.perf_counter()
            # Each turn ends with an answer or one more dark upstream.
            for _ in range(len(table.upstreams) + 1):
                decided = await self._decide(request, path, held, table)
                if isinstance(decided, Refusal):
                    return self._refused(request, api, decided)
                held.sent = held.raw if decided.sent is None else decided.sent
                self._metrics.decision_s.observe(time.perf_counter() - began)
                passage = Passage(
                    choice=decided.choice,
                    held=held,
                    api=api,
                    request_id=headers.request_id(request.headers),
                    extra=page,
                    began=began,
                )
                del decided
                answer = await self._attempt(request, passage)
                if answer is not None:
                    return answer
        return self._refused(request, api, STARTING)

    async def _decide(
        self, request: web.BaseRequest, path: str, held: Held, table: RoutingTable
    ) -> Decided | Refusal:
        asked = Asked(
            method=request.method,
            path=path,
            content_type=request.headers.get("content-type", ""),
            headers={name.lower(): value for name, value in request.headers.items()},
            raw=held.raw,
        )
        decided = await self._apart(asked, table)
        if isinstance(decided, Refusal) or not decided.choice.ask_tokenizer:
            return decided
        choice = decided.choice
        outgoing = headers.towards_upstream(request.headers)
        tokens = await prompt_tokens(decided.question, self._links.to(choice.upstream), outgoing)
        outcome = "no answer" if tokens is None else "counted"
        self._metrics.tokenized.labels(choice.model, outcome).inc()
        counted = -1 if tokens is None else tokens
        asked = replace(asked, counted_tokens=counted, counted_by=choice.upstream.name)
        return await self._apart(asked, table)

    async def _apart(self, asked: Asked, table: RoutingTable) -> Decided | Refusal:
        load = self._links.load() if table.routing.spill_over is not None else {}
        dark = self._links.dark()
        try:
            if len(asked.raw) <= ASIDE_BYTES:
                few = replace(asked, most_objects=MOST_OBJECTS)
                with suppress(Dense):
                    return decide(few, table, dark, load)
            return await self._aside.run(decide, asked, table, dark, load)
        except Lost as error:
            _log.error("%s", error)
            message = "there was no memory to read this body"
            return Refusal(status=503, code="overloaded", message=message, retry_after_s=1.0)

    async def _attempt(
        self, request: web.BaseRequest, passage: Passage
    ) -> web.StreamResponse | None:
        """Return the answer of the chosen upstream, None when it takes no connections."""
        choice = passage.choice
        name = choice.upstream.name
        try:
            response = await forward(
                request, passage, self._links.to(choice.upstream), self._metrics
            )
        except Refused as error:
            self._links.darken(name, str(error))
            return None
        except Died as error:
            _log.warning("%s ended before it answered (%s)", name, error)
            refusal = Refusal(
                status=502,
                code="upstream_died",
                message=f"{choice.model} ended the connection before it answered",
            )
            response = error_response(passage.api, refusal, passage.request_id)
            response.headers.update(headers.routed(choice))
            self._metrics.answered(choice, response.status)
        else:
            self._links.lighten(name)
        return response

    def _refused(self, request: web.BaseRequest, api: Api, refusal: Refusal) -> web.Response:
        self._metrics.refused(refusal)
        response = error_response(api, refusal, headers.request_id(request.headers))
        response.headers.update(headers.refused(refusal))
        return response

    def _unknown(self, request: web.BaseRequest, path: str) -> web.Response:
        refusal = Refusal(status=404, code="not_found", message=f"there is no {path[:200]}")
        return self._refused(request, api_of(path), refusal)

    def _wrong_method(self, request: web.BaseRequest, path: str, allow: str) -> web.Response:
        message = f"{path[:200]} takes {allow}, not {request.method}"
        refusal = Refusal(status=405, code="method_not_allowed", message=message)
        response = self._refused(request, api_of(path), refusal)
        response.headers["Allow"] = _allowed(path) or allow
        return response

    async def _health(self) -> web.Response:
        return web.json_response({"alive": True})

    async def _ready(self) -> web.Response:
        table = self._tables.table
        if table is None:
            return web.json_response({"ready": False, "reason": STARTING.message}, status=503)
        status, body = readiness(table, self._links.dark())
        return web.json_response(body, status=status)

    async def _counted(self) -> web.Response:
        text = await self._all_metrics()
        return web.Response(body=text.encode(), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def _models(self) -> web.Response:
        cards = model_cards(self._table_or_empty(), created=self._created)
        return web.json_response({"object": "list", "data": cards})

    def _model(self, request: web.BaseRequest, path: str) -> web.Response:
        name = unquote(path.removeprefix("/v1/models/"))
        for card in model_cards(self._table_or_empty(), created=self._created):
            if card["id"] == name:
                return web.json_response(card)
        message = f"the model {name[:128]!r} does not exist here"
        refusal = Refusal(status=404, code="model_not_found", message=message, param="model")
        return self._refused(request, "openai", refusal)

    def _table_or_empty(self) -> RoutingTable:
        return self._tables.table or _NO_MODELS


def _allowed(path: str) -> str | None:
    """Return the methods of *path*, None where there is no such path."""
    if path in _READ_ONLY or path.startswith("/v1/models/"):
        return "GET, HEAD, OPTIONS"
    if path in _POST_ONLY:
        return "POST, OPTIONS"
    return (
        "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS" if path == "*" or _passed_on(path) else None
    )


def _passed_on(path: str) -> bool:
    """Whether *path*, which is not ours, goes to the model that the request names."""
    if not path.startswith("/v1/") or path.startswith(_WITHHELD):
        return False
    # A path that means another one after decoding could reach what is not under /v1.
    return ".." not in path and "%" not in path and "//" not in path
