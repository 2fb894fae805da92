"""Which model answers: a name, a header, a rule, the kind, the classifier, the default.

In this order, and each choice says which of them decided. The rest is the same for all: what
the route's model cannot do or hold, or is not there for, one of its fallbacks does.
"""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from types import MappingProxyType

from gpuserve.routing import fitness, refusals
from gpuserve.routing.choice import Choice, Decision
from gpuserve.routing.classify import Verdict
from gpuserve.routing.refusals import RETRY_AFTER_S, Refusal
from gpuserve.routing.request import Need
from gpuserve.routing.scene import Scene, verdict_on
from gpuserve.routing.serving import lowered, room_of, served, shown_route, unknown_to
from gpuserve.routing.table import RoutingTable, Target

__all__ = [
    "RETRY_AFTER_S",
    "Choice",
    "Refusal",
    "Target",
    "choose",
    "dark_routes",
    "fallbacks",
    "find",
    "has_auto",
    "public_names",
]

# What a client sends to have a route or a model without naming one in the body.
ROUTE_HEADER = "x-gpuserve-route"
MODEL_HEADER = "x-gpuserve-model"

_NO_LOAD: Mapping[str, int] = MappingProxyType({})


def choose(
    need: Need,
    table: RoutingTable,
    dark: AbstractSet[str] = frozenset(),
    load: Mapping[str, int] = _NO_LOAD,
) -> Choice | Refusal:
    """Return who answers *need*.

    *dark* are the names of upstreams that refused connections a moment ago, whatever the table
    says about them. *load* is what this process has in flight, by upstream; it is looked at only
    where the profile says `spill_over`.
    """
    if need.model is not None:
        target = table.by_name.get(need.model)
        if target is not None:
            return _named(need, need.model, target, table, dark)
        if need.model != table.routing.auto:
            return refusals.unknown_model(need.model, public_names(table))
    pinned = need.headers.get(MODEL_HEADER)
    if pinned is not None:
        return _pinned(need, pinned.strip(), table, dark)
    if need.task not in ("chat", "text") and not (need.task == "count" and need.model):
        return _only(need, table, dark)
    decision = _decide(need, table)
    if decision is None:
        return _only(need, table, dark)
    if isinstance(decision, Refusal):
        return decision
    answer = served(need, decision, table, dark, load)
    if isinstance(answer, Refusal):
        first = table.chains[decision.route][0]
        return replace(
            answer, model=first.model, route=shown_route(decision, table), reason=decision.reason
        )
    return answer


def fallbacks(need: Need, choice: Choice, table: RoutingTable) -> Iterator[str]:
    """Yield the models that would serve *need* on the route of *choice*, if those before were down.

    Nothing stands in for a model that the request names.
    """
    if choice.route not in table.chains:
        return
    decision = Decision(step=choice.step, route=choice.route, reason=choice.reason)
    dark = frozenset({choice.upstream.name})
    while isinstance(answer := served(need, decision, table, dark, _NO_LOAD), Choice):
        yield answer.model
        dark |= {answer.upstream.name}


def find(name: str, table: RoutingTable) -> Target | None:
    """Return the target that a model name or alias stands for."""
    return table.by_name.get(name)


def public_names(table: RoutingTable) -> Iterator[str]:
    """Every model name that a request may carry, `auto` last where it means something."""
    for upstream in table.upstreams:
        yield from upstream.names
    if has_auto(table):
        yield table.routing.auto


def has_auto(table: RoutingTable) -> bool:
    """Whether `auto` leads anywhere: there are routes, or there is one model."""
    return bool(table.chains) or _sole(table) is not None


def dark_routes(table: RoutingTable, dark: AbstractSet[str] = frozenset()) -> dict[str, str]:
    """Return the routes whose first choice is not ready, each with the reason.

    Without routes every model is one.
    """
    routes = {route: chain[0] for route, chain in table.chains.items()}
    return {
        route: f"{target.model}: {why}"
        for route, target in (routes or {t.model: t for t in table.targets}).items()
        if (why := fitness.not_ready(target.upstream, dark))
    }


def _decide(need: Need, table: RoutingTable) -> Decision | Refusal | None:
    """Return the route that *need* takes, None where the profile has none for it."""
    asked = need.headers.get(ROUTE_HEADER)
    chains = table.chains
    if asked is not None:
        asked = asked.strip()
        if asked not in chains:
            return refusals.bad_header(ROUTE_HEADER, asked, "route", chains)
        reason = f"header: {ROUTE_HEADER} asks for {asked}"
        return Decision(step="header", route=asked, reason=reason)
    if not chains:
        return None
    scene = None
    if table.rules:
        scene = Scene(need, table.unsure)
        for rule in table.rules:
            hits = rule.hits(scene)
            if hits is not None:
                reason = f"rule {rule.route}: {', '.join(hits)}"
                return Decision(step="rule", route=rule.route, reason=reason, hits=hits)
    if need.fim and "code" in chains:
        reason = "kind: fill-in-the-middle goes to code"
        return Decision(step="kind", route="code", reason=reason)
    if "code" in chains and "general" in chains:
        return _classified(verdict_on(need, table.unsure) if scene is None else scene.verdict)
    if "default" in chains:
        return Decision(step="default", route="default", reason="default: no rule holds")
    return None


def _classified(verdict: Verdict) -> Decision:
    route = verdict.route
    told = f"(p(code)={verdict.score:.2f}): {', '.join(verdict.reasons)}"
    if route == "unsure":
        reason = f"default: unsure {told}"
        return Decision(step="default", route="default", reason=reason, verdict=verdict)
    reason = f"classifier: looks {route} {told}"
    return Decision(step="classifier", route=route, reason=reason, verdict=verdict)


def _named(
    need: Need,
    name: str,
    target: Target,
    table: RoutingTable,
    dark: AbstractSet[str],
    header: str | None = None,
) -> Choice | Refusal:
    # Who names a model gets it, and that engine's own word on what it cannot do; but an engine
    # has no endpoints at all for the other kind, and its 404 would not say so.
    alias = f" by its alias {name}" if name != target.model else ""
    reason = (
        f"header: {header} names {target.model}{alias}"
        if header
        else f"explicit: the request names {target.model}{alias}"
    )
    embeds = target.upstream.capabilities.embeddings
    other_kind = embeds if need.task in ("chat", "text") else embeds is False
    refusal = None
    if need.task in ("chat", "text", "pool") and other_kind:
        refusal = refusals.nobody(need, [target])
    elif fitness.not_ready(target.upstream, dark) is not None:
        refusal = refusals.not_now([target], dark)
    if refusal is not None:
        return replace(refusal, model=target.model, route="explicit", reason=reason)
    edits, unsure = lowered(need, target, table) if need.wanted_tokens else ((), False)
    return Choice(
        upstream=target.upstream,
        step="header" if header else "explicit",
        route="explicit",
        reason=reason,
        model=target.model,
        # An engine knows the aliases of the day when it was started; its own name it always knows.
        rewrite=unknown_to(target, need),
        edits=edits,
        ask_tokenizer=unsure,
    )


def _pinned(need: Need, name: str, table: RoutingTable, dark: AbstractSet[str]) -> Choice | Refusal:
    target = table.by_name.get(name)
    if target is None:
        return refusals.bad_header(MODEL_HEADER, name, "model", table.by_name)
    return _named(need, name, target, table, dark, header=MODEL_HEADER)


def _only(need: Need, table: RoutingTable, dark: AbstractSet[str]) -> Choice | Refusal:
    capable = [t for t in table.targets if fitness.why_not(t, need) is None]
    able = [t for t in capable if room_of(t, need, table) != "no"]
    if need.task == "pool":
        able = [t for t in able if t.upstream.capabilities.embeddings] or able
    elif need.task == "other":
        able = list(table.targets)
    elif (sole := _sole(table)) in able and sole is not None:
        able = [sole]  # an embedding server beside the only model does not make it two
    if len(able) == 1:
        (target,) = able
        reason = f"only: {target.model} is the only model that does this"
        if fitness.not_ready(target.upstream, dark) is not None:
            refusal = refusals.not_now(able, dark)
            return replace(refusal, model=target.model, route="only", reason=reason)
        edits, unsure = lowered(need, target, table)
        return Choice(
            upstream=target.upstream,
            step="only",
            route="only",
            reason=reason,
            model=target.model,
            rewrite=unknown_to(target, need),
            edits=edits,
            ask_tokenizer=unsure,
        )
    if not able:
        return refusals.too_long(need, capable) if capable else refusals.nobody(need, table.targets)
    if need.model is not None and not table.chains:
        return refusals.unknown_model(need.model, public_names(table))
    return refusals.several(able)


def _sole(table: RoutingTable) -> Target | None:
    """Return the only model that there is; servers elsewhere count where we run none."""
    targets = table.targets
    found = [target for target in targets if target.upstream.managed] or targets
    return found[0] if len(found) == 1 else None
