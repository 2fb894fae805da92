"""Who of a route's models serves: able, roomy, there, and not full; or why nobody does."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace

from gpuserve.routing import fitness, refusals
from gpuserve.routing.choice import Cause, Choice, Decision
from gpuserve.routing.refusals import Refusal
from gpuserve.routing.request import LIMITS, Need
from gpuserve.routing.table import RoutingTable, Target


def served(
    need: Need,
    decision: Decision,
    table: RoutingTable,
    dark: AbstractSet[str],
    load: Mapping[str, int],
) -> Choice | Refusal:
    """Return who of the route's models, or beyond them, serves."""
    chain = table.chains[decision.route]
    first = chain[0]
    if _surely(first, need, table, dark):
        return _choice(first, need, decision, table)
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
    edits, unsure = lowered(need, chosen, table)
    near = need.counted_tokens is None and room_of(chosen, need, table) in ("near", "hardly")
    fallback, cause = (None, None) if chosen == first else _passed_over(first, need, dark, full)
    return replace(
        _choice(chosen, need, decision, table),
        fallback=fallback,
        wanted=first.model if fallback else None,
        cause=cause,
        edits=edits,
        ask_tokenizer=unsure or near,
    )


def _choice(target: Target, need: Need, decision: Decision, table: RoutingTable) -> Choice:
    return Choice(
        upstream=target.upstream,
        step=decision.step,
        route=shown_route(decision, table),
        reason=decision.reason,
        model=target.model,
        rewrite=unknown_to(target, need),
        verdict=decision.verdict,
        hits=decision.hits,
    )


def _surely(target: Target, need: Need, table: RoutingTable, dark: AbstractSet[str]) -> bool:
    """Whether *target* serves *need* beyond doubt: then nobody else need be looked at."""
    return (
        fitness.not_ready(target.upstream, dark) is None
        and table.routing.spill_over is None
        and (not need.wanted_tokens or not table.routing.clamp_max_tokens)
        and fitness.why_not(target, need) is None
        and room_of(target, need, table) == "yes"
    )


def _by_room(
    able: list[Target], others: list[Target], need: Need, table: RoutingTable
) -> list[Target]:
    """Return who may hold *need*, the surest first; *others* only where they hold it surely."""
    rooms = [(t, room_of(t, need, table)) for t in able]
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
    return known and room_of(target, need, table) == "yes"


def room_of(target: Target, need: Need, table: RoutingTable) -> fitness.Room:
    """Return whether *target* has room for *need*, by what *table* says of max_tokens."""
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


def lowered(
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


def unknown_to(target: Target, need: Need) -> bool:
    """Whether the body does not name *target*'s model by a name that its server answers to."""
    return need.model != target.model and need.model not in target.upstream.served_names


def shown_route(decision: Decision, table: RoutingTable) -> str:
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
