"""One routing decision as plain data, by the same code that the router decides with.

Stateless: it knows no dead upstreams and takes every model to be ready, so what it says is where
a request goes on a healthy box.
"""

import json
from collections.abc import Mapping
from typing import Any

from gpuserve.plan import Capabilities
from gpuserve.profile.spec import Profile, RoutingSpec
from gpuserve.routing.choose import Choice, choose
from gpuserve.routing.request import NO_HEADERS, need_of
from gpuserve.routing.table import RoutingTable, Upstream, stated_capabilities


def explain(
    body: dict[str, Any], table: RoutingTable, headers: Mapping[str, str] = NO_HEADERS
) -> dict[str, Any]:
    """Return where a chat (or, with `prompt`, a completion) with this *body* goes, and why.

    `route`, `model`, `reason`, `score` (probability of code, None where nothing was classified),
    `decided_by`, `verdict`, `signs`, `fallback`; or `error` where nobody would answer.
    Raises BadBody when `model` is not a string.
    """
    completion = "prompt" in body and "messages" not in body
    path = "/v1/completions" if completion else "/v1/chat/completions"
    choice = choose(need_of(path, body, _size(body), headers), table)
    if not isinstance(choice, Choice):
        return {"route": None, "model": None, "score": None, "error": choice.message}
    verdict = choice.verdict
    return {
        "route": choice.route,
        "model": choice.model,
        "reason": choice.reason,
        "score": round(verdict.score, 4) if verdict else None,
        "decided_by": choice.step,
        "verdict": verdict.route if verdict else None,
        "signs": list(verdict.reasons) if verdict else [],
        "fallback": choice.fallback,
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
