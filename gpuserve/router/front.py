"""The public endpoint: which path is what, and one answer for each request."""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from urllib.parse import unquote

from aiohttp import web

from gpuserve.profile.spec import RoutingSpec
from gpuserve.router import headers, metrics
from gpuserve.router.apierrors import Api, api_of, error_response
from gpuserve.router.forward import Passage, forward
from gpuserve.router.intake import TooLarge, aside, need_from, read_body
from gpuserve.router.links import Died, Links, Refused
from gpuserve.router.tablefile import TableFile
from gpuserve.router.tokens import prompt_tokens
from gpuserve.routing.body import BadBody, as_sent
from gpuserve.routing.choose import Choice, Refusal, choose
from gpuserve.routing.listing import model_cards, readiness
from gpuserve.routing.request import Need
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
STARTING = Refusal(status=503, code="starting", message="gpuserve is starting", retry_after_s=1.0)

_NO_MODELS = RoutingTable(instance="", generation=0, routing=RoutingSpec(), upstreams=())


class Front:
    """Answers public requests by the table that *tables* holds at that moment."""

    def __init__(
        self,
        tables: TableFile,
        links: Links,
        counted: metrics.Metrics,
        all_metrics: Callable[[], Awaitable[str]],
    ) -> None:
        self._tables = tables
        self._links = links
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
        try:
            response = await self._dispatch(request, path)
        except (ConnectionError, web.HTTPException):
            raise
        except Exception:  # noqa: BLE001 - logged with its traceback; the client gets a 500
            _log.exception("internal error at %s", path)
            refusal = Refusal(status=500, code="internal_error", message="internal error")
            response = self._refused(request, api_of(path), refusal)
        if self.draining:
            response.force_close()
        return response

    async def _dispatch(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
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
            refusal = Refusal(status=404, code="not_found", message=f"there is no {path[:200]}")
            return self._refused(request, api_of(path), refusal)
        return await self._route(request, path)

    async def _route(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        api = api_of(path)
        table = self._tables.table
        if table is None:
            return self._refused(request, api, STARTING)
        try:
            raw = await read_body(request, table.limits.max_body_bytes)
        except TooLarge as error:
            refusal = Refusal(status=413, code="request_too_large", message=str(error))
            return self._refused_for_good(request, api, refusal)
        except BadBody as error:
            refusal = Refusal(status=400, code="invalid_body", message=str(error))
            return self._refused_for_good(request, api, refusal)
        began = time.perf_counter()
        kind = request.headers.get("content-type", "")
        need = await aside(len(raw), need_from, request.method, path, kind, raw, request.headers)
        if isinstance(need, Refusal):
            return self._refused(request, api, need)
        # Each turn ends with an answer or one more dark upstream.
        for _ in range(len(table.upstreams) + 1):
            choice = await self._choose(request, need, table, len(raw))
            if isinstance(choice, Refusal):
                return self._refused(request, api, choice)
            self._metrics.decision_s.observe(time.perf_counter() - began)
            answer = await self._attempt(request, need, choice, raw, api, began)
            if answer is not None:
                return answer
        return self._refused(request, api, STARTING)

    async def _choose(
        self, request: web.BaseRequest, need: Need, table: RoutingTable, size_bytes: int
    ) -> Choice | Refusal:
        load = self._links.load() if table.routing.spill_over is not None else {}
        choice = await aside(size_bytes, choose, need, table, self._links.dark(), load)
        if isinstance(choice, Refusal) or not choice.ask_tokenizer:
            return choice
        outgoing = headers.towards_upstream(request.headers)
        link = self._links.to(choice.upstream)
        tokens = await prompt_tokens(need, choice.model, link, outgoing)
        outcome = "no answer" if tokens is None else "counted"
        self._metrics.tokenized.labels(choice.model, outcome).inc()
        need = replace(need, counted_tokens=-1 if tokens is None else tokens)
        return await aside(size_bytes, choose, need, table, self._links.dark(), load)

    async def _attempt(
        self,
        request: web.BaseRequest,
        need: Need,
        choice: Choice,
        raw: bytes,
        api: Api,
        began: float,
    ) -> web.StreamResponse | None:
        """Return the answer of the chosen upstream, None when it takes no connections."""
        name = choice.upstream.name
        model = choice.model if choice.rewrite else None
        sent = raw
        if model is not None or choice.edits:
            sent = await aside(len(raw), as_sent, raw, need.body, model=model, edits=choice.edits)
        passage = Passage(
            choice=choice,
            body=sent,
            api=api,
            request_id=headers.request_id(request.headers),
            began=began,
        )
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
            response = error_response(api, refusal, passage.request_id)
            response.headers.update(headers.routed(choice))
        else:
            self._links.lighten(name)
        self._metrics.answered(choice, response.status)
        return response

    def _refused(self, request: web.BaseRequest, api: Api, refusal: Refusal) -> web.Response:
        self._metrics.refused(refusal)
        response = error_response(api, refusal, headers.request_id(request.headers))
        response.headers.update(headers.refused(refusal))
        return response

    def _refused_for_good(
        self, request: web.BaseRequest, api: Api, refusal: Refusal
    ) -> web.Response:
        """Refuse a request whose body was not read to its end, so that nothing can follow it."""
        response = self._refused(request, api, refusal)
        response.force_close()
        return response

    def _wrong_method(self, request: web.BaseRequest, path: str, allow: str) -> web.Response:
        message = f"{path[:200]} takes {allow}, not {request.method}"
        refusal = Refusal(status=405, code="method_not_allowed", message=message)
        response = self._refused(request, api_of(path), refusal)
        response.headers["Allow"] = allow
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


def _passed_on(path: str) -> bool:
    """Whether *path*, which is not ours, goes to the model that the request names."""
    if not path.startswith("/v1/") or path.startswith(_WITHHELD):
        return False
    # A path that means another one after decoding could reach what is not under /v1.
    return ".." not in path and "%" not in path and "//" not in path
