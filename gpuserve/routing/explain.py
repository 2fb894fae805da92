"""One routing decision as plain data, by the same code that the router decides with.

Stateless: it takes every model to be ready but those that it is told are down, and nothing to
be in flight, so what it says is where a request goes on a healthy box.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from gpuserve.plan import Capabilities
from gpuserve.profile.spec import Profile, RoutingSpec
from gpuserve.routing.choose import Refusal, choose, fallbacks
from gpuserve.routing.request import NO_HEADERS, need_of
from gpuserve.routing.table import RoutingTable, Upstream, stated_capabilities


def explain(
    body: dict[str, Any],
    table: RoutingTable,
    *,
    headers: Mapping[str, str] = NO_HEADERS,
    size_bytes: int | None = None,
) -> dict[str, Any]:
    """Return where a request with this *body* goes, and why.

    It is a chat, or with `prompt` a completion, or with `input` a Responses request; *headers*
    have names in lower case, *size_bytes* is the length of the body as it was sent.

    `route`, `model`, `reason`, `score` (probability of code, None where nothing was classified),
    `decided_by` (the step), `verdict`, `signs`, `hits` (what made a rule hold), `unsure_between`
    (the probabilities), `fallback` (why the first choice cannot serve), `fallbacks` (who would,
    one after the other, if those before were down), `max_tokens` (where it is lowered),
    `asks_tokenizer`; or `error`, `status` and `code` where nobody would answer, and `meant_for`.
    Raises BadBody when `model` is not a string.
    """
    size = _size(body) if size_bytes is None else size_bytes
    need = need_of(_path(body), body, size, headers)
    choice = choose(need, table)
    if isinstance(choice, Refusal):
        return _refused(choice)
    verdict = choice.verdict
    return {
        "route": choice.route,
        "model": choice.model,
        "reason": choice.reason,
        "score": round(verdict.score, 4) if verdict else None,
        "decided_by": choice.step,
        "verdict": verdict.route if verdict else None,
        "signs": list(verdict.reasons) if verdict else [],
        "hits": list(choice.hits),
        "unsure_between": list(table.unsure) if verdict else None,
        "fallback": choice.fallback,
        "fallbacks": list(fallbacks(need, choice, table)),
        "max_tokens": min((number for _, number in choice.edits), default=None),
        "asks_tokenizer": choice.ask_tokenizer,
    }


def supposed_table(profile: Profile | None = None) -> RoutingTable:
    """Return the table of *profile* with every model ready; without one, of `code` and `general`.

    What only the weights tell, such as whether there is a chat template, is unknown.
    """
    if profile is None:
        routing = RoutingSpec(code="code", general="general", default="general")
        upstreams = tuple(_ready(name, (name,)) for name in ("code", "general"))
        return RoutingTable(instance="", generation=0, routing=routing, upstreams=upstreams)
    engines = tuple(
        _ready(
            m.name,
            (m.name, *m.aliases),
            capabilities=Capabilities(
                tools=m.tool_call_parser is not None,
                max_model_len=m.max_model_len,
                max_num_seqs=m.max_num_seqs,
            ),
        )
        for m in profile.models
    )
    elsewhere = tuple(
        _ready(u.name, u.models, managed=False, capabilities=stated_capabilities(u))
        for u in profile.upstreams
    )
    return RoutingTable(
        instance="",
        generation=0,
        routing=profile.routing,
        upstreams=engines + elsewhere,
        workers=profile.server.workers,
    )


def with_down(table: RoutingTable, names: Iterable[str]) -> RoutingTable:
    """Return *table* with the models of *names* down; raises KeyError for a name it lacks."""
    down = {table.by_name[name].upstream.name for name in names}
    upstreams = tuple(
        replace(u, state="Stopped", routable=False, reason="said to be down")
        if u.name in down
        else u
        for u in table.upstreams
    )
    return replace(table, upstreams=upstreams)


def _path(body: dict[str, Any]) -> str:
    if "messages" in body:
        return "/v1/chat/completions"
    if "prompt" in body:
        return "/v1/completions"
    return "/v1/responses" if "input" in body else "/v1/chat/completions"


def _refused(refusal: Refusal) -> dict[str, Any]:
    return {
        "route": None,
        "model": None,
        "reason": refusal.reason,
        "score": None,
        "error": refusal.message,
        "status": refusal.status,
        "code": refusal.code,
        "meant_for": refusal.model,
    }


def _ready(
    name: str,
    names: tuple[str, ...],
    *,
    managed: bool = True,
    capabilities: Capabilities = Capabilities(),  # noqa: B008 - frozen
) -> Upstream:
    return Upstream(
        name=name,
        names=names,
        url="http://localhost",
        managed=managed,
        state="Ready",
        routable=True,
        capabilities=capabilities,
    )


def _size(body: dict[str, Any]) -> int:
    return len(json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass"))
