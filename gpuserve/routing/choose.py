"""Which model answers: explicit names win, `auto` is classified, and every choice has a reason."""

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from gpuserve.routing.classify import Verdict, classify
from gpuserve.routing.request import Need
from gpuserve.routing.table import RoutingTable, Upstream
from gpuserve.routing.turns import turns_of

# For clients, where the controller has no better word.
RETRY_AFTER_S = 5.0
# An upstream that refused a connection is asked again after a second.
_DARK_RETRY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The upstream that answers.

    `route` is "explicit", "only", or what the verdict stands for: "code", "general", "default".
    `fallback` says why the first choice could not serve, None when it does. `model` is the name
    to ask the upstream for; `rewrite` says that the body does not say so yet.
    """

    upstream: Upstream
    route: str
    reason: str
    model: str
    rewrite: bool = False
    fallback: str | None = None
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why nobody answers, as an HTTP status, a stable code and a sentence for people."""

    status: int
    code: str
    message: str
    retry_after_s: float | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """One model of one upstream; engines have one, servers elsewhere may have several."""

    upstream: Upstream
    model: str


def choose(
    need: Need, table: RoutingTable, dark: AbstractSet[str] = frozenset()
) -> Choice | Refusal:
    """Return who answers *need*.

    *dark* are the names of upstreams that refused connections a moment ago, whatever the table
    says about them.
    """
    if need.model is not None:
        target = find(need.model, table)
        if target is not None:
            return _named(need, need.model, target, dark)
        if need.model != table.routing.auto:
            return _unknown(need.model, table)
    routed = _routes(table)
    classified = need.task in ("chat", "text") or (need.task == "count" and need.model)
    if routed and classified:
        return _classified(need, table, routed, dark)
    return _only(need, table, dark)


def find(name: str, table: RoutingTable) -> Target | None:
    """Return the target that a model name or alias stands for."""
    for upstream in table.upstreams:
        if name in upstream.names:
            return Target(upstream, upstream.names[0] if upstream.managed else name)
    return None


def public_names(table: RoutingTable) -> Iterator[str]:
    """Every model name that a request may carry, `auto` last where it means something."""
    for upstream in table.upstreams:
        yield from upstream.names
    if has_auto(table):
        yield table.routing.auto


def has_auto(table: RoutingTable) -> bool:
    """Whether `auto` leads anywhere: there are routes, or there is one model."""
    return bool(_routes(table)) or _sole(table) is not None


def dark_routes(table: RoutingTable, dark: AbstractSet[str] = frozenset()) -> dict[str, str]:
    """Return the routes without a ready upstream, each with the reason.

    Without routes every model is one.
    """
    routes = _routes(table) or {t.model: t for t in _targets(table)}
    return {
        route: f"{target.model}: {why}"
        for route, target in routes.items()
        if (why := _not_ready(target.upstream, dark))
    }


def why_not(target: Target, need: Need) -> str | None:
    """Return why *target* cannot do what *need* asks, None when it can or nobody knows."""
    can = target.upstream.capabilities
    if need.task == "pool":
        return "generates text, it does not embed" if can.embeddings is False else None
    if need.task in ("chat", "text") and can.embeddings:
        return "is an embedding model"
    if need.task == "chat" and can.chat is False:
        return "has no chat template"
    if need.tools and can.tools is False:
        return "was started without a tool call parser"
    if need.images and can.images is False:
        return "does not take images"
    if can.max_model_len is not None and need.least_tokens > can.max_model_len:
        return f"holds {can.max_model_len} tokens, the request has at least {need.least_tokens}"
    return None


def _named(need: Need, name: str, target: Target, dark: AbstractSet[str]) -> Choice | Refusal:
    # Who names a model gets it, and that engine's own word on what it cannot do; but an engine
    # has no endpoints at all for the other kind, and its 404 would not say so.
    embeds = target.upstream.capabilities.embeddings
    other_kind = embeds if need.task in ("chat", "text") else embeds is False
    if need.task in ("chat", "text", "pool") and other_kind:
        return _nobody(need, [target])
    why = _not_ready(target.upstream, dark)
    if why is not None:
        return _not_now([(target, why)], dark)
    alias = name != target.model
    reason = f"the request names {target.model}" + (f" by its alias {name}" if alias else "")
    return Choice(upstream=target.upstream, route="explicit", reason=reason, model=target.model)


def _classified(
    need: Need, table: RoutingTable, routes: dict[str, Target], dark: AbstractSet[str]
) -> Choice | Refusal:
    verdict = classify(turns_of(need.body))
    wanted = verdict.route if verdict.route != "unsure" else "default"
    order = _distinct(routes.get(r) for r in (wanted, "default", "general", "code"))
    first = order[0]
    able = [t for t in order if why_not(t, need) is None]
    # A model that no route names answers only what the routes' models cannot do at all.
    able = able or [t for t in _targets(table) if why_not(t, need) is None]
    if not able:
        return _nobody(need, order)
    roomy = [t for t in able if _has_room(t, need)]
    able = roomy + [t for t in able if t not in roomy]
    ready = [t for t in able if _not_ready(t.upstream, dark) is None]
    if not ready:
        return _not_now([(t, _not_ready(t.upstream, dark) or "") for t in able], dark)
    chosen = ready[0]
    return Choice(
        upstream=chosen.upstream,
        route=wanted if verdict.route != "unsure" else _route_of(first, routes),
        reason=_reason(verdict),
        model=chosen.model,
        rewrite=True,
        fallback=None if chosen == first else f"{first.model}: {_passed_over(first, need, dark)}",
        verdict=verdict,
    )


def _only(need: Need, table: RoutingTable, dark: AbstractSet[str]) -> Choice | Refusal:
    able = [t for t in _targets(table) if why_not(t, need) is None]
    if need.task == "pool":
        able = [t for t in able if t.upstream.capabilities.embeddings] or able
    elif need.task == "other":
        able = list(_targets(table))
    elif (sole := _sole(table)) in able and sole is not None:
        able = [sole]  # an embedding server beside the only model does not make it two
    names = ", ".join(t.model for t in able)
    if len(able) == 1:
        why = _not_ready(able[0].upstream, dark)
        if why is not None:
            return _not_now([(able[0], why)], dark)
        reason = f"{names} is the only model that does this"
        return Choice(
            upstream=able[0].upstream, route="only", reason=reason, model=names, rewrite=True
        )
    if not able:
        return _nobody(need, list(_targets(table)))
    if need.model is not None and not _routes(table):
        return _unknown(need.model, table)
    return Refusal(
        status=400,
        code="model_required",
        param="model",
        message=f'the request names no model and several could answer it; set "model" to one '
        f"of: {names}",
    )


def _routes(table: RoutingTable) -> dict[str, Target]:
    """Return the routes of the profile; empty when it has no `[routing]`."""
    routing = table.routing
    named = {"code": routing.code, "general": routing.general, "default": routing.default}
    found = {route: find(name, table) for route, name in named.items() if name is not None}
    return {route: target for route, target in found.items() if target is not None}


def _sole(table: RoutingTable) -> Target | None:
    """Return the only model that there is; servers elsewhere count where we run none."""
    targets = list(_targets(table))
    ours = [target for target in targets if target.upstream.managed]
    found = ours or targets
    return found[0] if len(found) == 1 else None


def _targets(table: RoutingTable) -> Iterator[Target]:
    for upstream in table.upstreams:
        for name in upstream.names[:1] if upstream.managed else upstream.names:
            yield Target(upstream, name)


def _distinct(targets: Iterable[Target | None]) -> list[Target]:
    return list(dict.fromkeys(t for t in targets if t is not None))


def _route_of(target: Target, routes: dict[str, Target]) -> str:
    return next((r for r in ("general", "code") if routes.get(r) == target), "default")


def _has_room(target: Target, need: Need) -> bool:
    limit = target.upstream.capabilities.max_model_len
    return limit is None or need.tokens <= limit


def _not_ready(upstream: Upstream, dark: AbstractSet[str]) -> str | None:
    if upstream.routable and upstream.name not in dark:
        return None
    if upstream.routable:
        return "refuses connections"
    return f"{upstream.state}, {upstream.reason}" if upstream.reason else upstream.state


def _passed_over(target: Target, need: Need, dark: AbstractSet[str]) -> str:
    limit = target.upstream.capabilities.max_model_len
    return (
        why_not(target, need)
        or _not_ready(target.upstream, dark)
        or f"holds {limit} tokens, the request has about {need.tokens}"
    )


def _reason(verdict: Verdict) -> str:
    word = "unsure, so the default" if verdict.route == "unsure" else f"looks {verdict.route}"
    return f"{word} (p(code)={verdict.score:.2f}): {', '.join(verdict.reasons)}"


def _unknown(name: str, table: RoutingTable) -> Refusal:
    known = ", ".join(public_names(table)) or "none"
    return Refusal(
        status=404,
        code="model_not_found",
        param="model",
        message=f"the model {name[:128]!r} does not exist here; known models: {known}",
    )


def _nobody(need: Need, targets: list[Target]) -> Refusal:
    whys = "; ".join(f"{t.model} {why_not(t, need)}" for t in targets) or "there are no models"
    return Refusal(
        status=400, code="no_capable_model", message=f"no model can answer this request: {whys}"
    )


def _not_now(targets: list[tuple[Target, str]], dark: AbstractSet[str]) -> Refusal:
    waits = [wait for t, _ in targets if (wait := _wait_s(t.upstream, dark)) is not None]
    whys = "; ".join(f"{t.model} is not ready: {why}" for t, why in targets)
    return Refusal(
        status=503, code="model_not_ready", message=whys, retry_after_s=min(waits, default=None)
    )


def _wait_s(upstream: Upstream, dark: AbstractSet[str]) -> float | None:
    """Return when to try again; None for what has failed for good.

    What an operator stopped, an operator starts again; the client's guess is as good as ours.
    """
    if upstream.routable:
        return _DARK_RETRY_S if upstream.name in dark else None
    if upstream.state == "Failed":
        return None
    return upstream.retry_after_s or RETRY_AFTER_S
