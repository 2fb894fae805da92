"""Which model answers: a name, a header, a rule, the kind, the classifier, the default.

In this order, and each choice says which of them decided. The rest is the same for all: what
the route's model cannot do or hold, or is not there for, one of its fallbacks does.
"""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from gpuserve.routing import fitness, refusals
from gpuserve.routing.classify import Verdict
from gpuserve.routing.refusals import RETRY_AFTER_S, Refusal
from gpuserve.routing.request import LIMITS, Need
from gpuserve.routing.scene import Scene
from gpuserve.routing.table import RoutingTable, Target, Upstream

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

Step = Literal["explicit", "header", "rule", "kind", "classifier", "default", "only"]
Cause = Literal["capability", "context", "not_ready", "unreachable", "full"]
_NO_LOAD: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The upstream that answers.

    `step` is what decided. `route` is "explicit", "only", or a route of the profile: "code",
    "general", "default", or the name of a rule. `model` is the name to ask the upstream for;
    `rewrite` says that the body does not say so yet. `edits` are numbers to put into the body
    instead of those that it has: max_tokens, lowered. `fallback` says why the first choice could
    not serve, None when it does; `wanted` is that first choice's model and `cause` the reason in
    one word. `ask_tokenizer`: this rests on an estimate that is too near the edge of the
    upstream's context; who can, asks its tokenizer and chooses again, with
    `Need.counted_tokens`. `verdict` is the classifier's, where it was asked; `hits` are what
    made a rule hold.
    """

    upstream: Upstream
    route: str
    reason: str
    model: str
    step: Step = "explicit"
    rewrite: bool = False
    fallback: str | None = None
    wanted: str | None = None
    cause: Cause | None = None
    edits: tuple[tuple[str, int], ...] = ()
    ask_tokenizer: bool = False
    verdict: Verdict | None = None
    hits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decision:
    """Which route a request takes, before anybody looks who can serve it."""

    step: Step
    route: str
    reason: str
    verdict: Verdict | None = None
    hits: tuple[str, ...] = ()


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
    answer = _served(need, decision, table, dark, load)
    if isinstance(answer, Refusal):
        first = table.chains[decision.route][0]
        return replace(
            answer, model=first.model, route=_shown(decision, table), reason=decision.reason
        )
    return answer


def fallbacks(need: Need, choice: Choice, table: RoutingTable) -> Iterator[str]:
    """Yield the models that would serve *need* on the route of *choice*, if those before were down.

    Nothing stands in for a model that the request names.
    """
    if choice.route not in table.chains:
        return
    decision = _Decision(step=choice.step, route=choice.route, reason=choice.reason)
    dark = frozenset({choice.upstream.name})
    while isinstance(answer := _served(need, decision, table, dark, _NO_LOAD), Choice):
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


def _decide(need: Need, table: RoutingTable) -> _Decision | Refusal | None:
    """Return the route that *need* takes, None where the profile has none for it."""
    asked = need.headers.get(ROUTE_HEADER)
    chains = table.chains
    if asked is not None:
        asked = asked.strip()
        if asked not in chains:
            return refusals.bad_header(ROUTE_HEADER, asked, "route", chains)
        reason = f"header: {ROUTE_HEADER} asks for {asked}"
        return _Decision(step="header", route=asked, reason=reason)
    if not chains:
        return None
    scene = Scene(need, table.unsure)
    for rule in table.rules:
        hits = rule.hits(scene)
        if hits is not None:
            reason = f"rule {rule.route}: {', '.join(hits)}"
            return _Decision(step="rule", route=rule.route, reason=reason, hits=hits)
    if need.fim and "code" in chains:
        reason = "kind: fill-in-the-middle goes to code"
        return _Decision(step="kind", route="code", reason=reason)
    if "code" in chains and "general" in chains:
        return _classified(scene.verdict)
    if "default" in chains:
        return _Decision(step="default", route="default", reason="default: no rule holds")
    return None


def _classified(verdict: Verdict) -> _Decision:
    told = f"(p(code)={verdict.score:.2f}): {', '.join(verdict.reasons)}"
    if verdict.route == "unsure":
        reason = f"default: unsure {told}"
        return _Decision(step="default", route="default", reason=reason, verdict=verdict)
    reason = f"classifier: looks {verdict.route} {told}"
    return _Decision(step="classifier", route=verdict.route, reason=reason, verdict=verdict)


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
    edits, unsure = _lowered(need, target, table) if need.wanted_tokens else ((), False)
    return Choice(
        upstream=target.upstream,
        step="header" if header else "explicit",
        route="explicit",
        reason=reason,
        model=target.model,
        # An engine knows the aliases of the day when it was started; its own name it always knows.
        rewrite=_unknown_to(target, need),
        edits=edits,
        ask_tokenizer=unsure,
    )


def _unknown_to(target: Target, need: Need) -> bool:
    """Whether the body does not name *target*'s model by a name that its server answers to."""
    return need.model != target.model and need.model not in target.upstream.served_names


def _pinned(need: Need, name: str, table: RoutingTable, dark: AbstractSet[str]) -> Choice | Refusal:
    target = table.by_name.get(name)
    if target is None:
        return refusals.bad_header(MODEL_HEADER, name, "model", table.by_name)
    return _named(need, name, target, table, dark, header=MODEL_HEADER)


def _served(
    need: Need,
    decision: _Decision,
    table: RoutingTable,
    dark: AbstractSet[str],
    load: Mapping[str, int],
) -> Choice | Refusal:
    """Return who of the route's models, or beyond them, serves."""
    chain = table.chains[decision.route]
    able = [t for t in chain if fitness.why_not(t, need) is None]
    others = [t for t in table.targets if t not in chain and fitness.surely_can(t, need)]
    if not able and not others:
        return refusals.nobody(need, chain)
    # A model that no route names answers only what the route's models cannot do at all.
    pool = _by_room(able or others, others if able else [], need, table)
    if not pool:
        return refusals.too_long(need, able or others)
    ready = [t for t in pool if fitness.not_ready(t.upstream, dark) is None]
    if not ready:
        return refusals.not_now(pool, dark)
    chosen, full = _spilled(ready, chain, table, load)
    first = chain[0]
    edits, unsure = _lowered(need, chosen, table)
    near = need.counted_tokens is None and _room(chosen, need, table) in ("near", "hardly")
    fallback, cause = (None, None) if chosen == first else _passed_over(first, need, dark, full)
    return Choice(
        upstream=chosen.upstream,
        step=decision.step,
        route=_shown(decision, table),
        reason=decision.reason,
        model=chosen.model,
        rewrite=_unknown_to(chosen, need),
        fallback=fallback,
        wanted=first.model if fallback else None,
        cause=cause,
        edits=edits,
        ask_tokenizer=unsure or near,
        verdict=decision.verdict,
        hits=decision.hits,
    )


def _by_room(
    able: list[Target], others: list[Target], need: Need, table: RoutingTable
) -> list[Target]:
    """Return who may hold *need*, the surest first; *others* only where they hold it surely."""
    rooms = [(t, _room(t, need, table)) for t in able]
    sure = [t for t, room in rooms if room == "yes"]
    near = [t for t, room in rooms if room == "near"]
    hardly = [t for t, room in rooms if room == "hardly"]
    if rooms and rooms[0][1] == "near":
        # The first choice may do after all: its tokenizer says.
        return [*near[:1], *sure, *near[1:], *hardly]
    roomy = [] if sure or near else [t for t in others if _roomy(t, need, table)]
    return [*sure, *near, *roomy, *hardly]


def _roomy(target: Target, need: Need, table: RoutingTable) -> bool:
    known = target.upstream.capabilities.max_model_len is not None
    return known and _room(target, need, table) == "yes"


def _room(target: Target, need: Need, table: RoutingTable) -> fitness.Room:
    return fitness.room(target, need, clamped=table.routing.clamp_max_tokens)


def _spilled(
    ready: list[Target], chain: tuple[Target, ...], table: RoutingTable, load: Mapping[str, int]
) -> tuple[Target, str | None]:
    """Return the first of *ready* that is not full, and how full the first is if it was not."""
    first = ready[0]
    full = _full(first, table, load)
    if full is None:
        return first, None
    for target in ready[1:]:
        if target in chain and _full(target, table, load) is None:
            return target, full
    return first, None


def _full(target: Target, table: RoutingTable, load: Mapping[str, int]) -> str | None:
    times, seqs = table.routing.spill_over, target.upstream.capabilities.max_num_seqs
    if times is None or seqs is None:
        return None
    in_flight = load.get(target.upstream.name, 0)
    if in_flight < max(1.0, times * seqs / table.workers):
        return None
    among = f" in one of {table.workers} routers" if table.workers > 1 else ""
    return f"full, {in_flight} in flight{among} and max_num_seqs {seqs}"


def _lowered(
    need: Need, target: Target, table: RoutingTable
) -> tuple[tuple[tuple[str, int], ...], bool]:
    """Return what to put in place of max_tokens, and whether a tokenizer should be asked first."""
    if not table.routing.clamp_max_tokens or need.task not in ("chat", "text"):
        return (), False
    left = fitness.left_tokens(target, need)
    if left is None:
        return (), False
    most, sure = left
    over = [key for key in LIMITS if _over(need.body.get(key), most)]
    return tuple((key, most) for key in over), not sure and need.counted_tokens is None


def _over(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > most


def _only(need: Need, table: RoutingTable, dark: AbstractSet[str]) -> Choice | Refusal:
    capable = [t for t in table.targets if fitness.why_not(t, need) is None]
    able = [t for t in capable if _room(t, need, table) != "no"]
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
        edits, unsure = _lowered(need, target, table)
        return Choice(
            upstream=target.upstream,
            step="only",
            route="only",
            reason=reason,
            model=target.model,
            rewrite=_unknown_to(target, need),
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


def _shown(decision: _Decision, table: RoutingTable) -> str:
    """Return what x-gpuserve-route says: the default is called as the route that has its model."""
    if decision.route != "default":
        return decision.route
    first = table.chains["default"][0]
    same = (r for r in ("general", "code") if table.chains.get(r, (None,))[0] == first)
    return next(same, "default")


def _passed_over(
    target: Target, need: Need, dark: AbstractSet[str], full: str | None
) -> tuple[str, Cause]:
    lacks = fitness.why_not(target, need)
    if lacks is not None:
        return f"{target.model}: {lacks}", "capability"
    why = fitness.not_ready(target.upstream, dark)
    if why is not None:
        gone = target.upstream.routable
        return f"{target.model}: {why}", "unreachable" if gone else "not_ready"
    if full is not None:
        return f"{target.model}: {full}", "full"
    return f"{target.model}: {fitness.told_room(target, need)}", "context"
