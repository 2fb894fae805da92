"""Turns engines, a layout and the room on each GPU into grants and shortfalls: pure arithmetic.

Charges are what the written flags make vLLM take: `ceil(total x fraction)` plus the context
outside of it. Charging them one after the other is vLLM's own start check, which wants
`free >= fraction x total` after the engine's context exists.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpuserve.memory.engine import Engine
from gpuserve.memory.fraction import charged_bytes, fraction_down, fraction_up
from gpuserve.memory.layout import Layout, asked_bytes
from gpuserve.memory.report import Shortfall
from gpuserve.memory.rooms import Room
from gpuserve.memory.share import fair_pools


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What one engine is charged on each of its GPUs, and the pool that vLLM has left for KV.

    `budgets` stand beside `gpus`, and differ only where the cards do. `elastic`: the size
    follows from a promise, so an engine that takes more than the median takes it from what is
    left of the GPU, not from its own cache.
    """

    engine: Engine
    gpus: tuple[int, ...]
    fraction: float
    budgets: tuple[int, ...]
    pool_bytes: int
    elastic: bool

    @property
    def budget_bytes(self) -> int:
        """Fraction x total, of the smallest of its GPUs; 0 without any GPU."""
        return min(self.budgets, default=0)

    @property
    def reserved_bytes(self) -> int:
        """The budget and the context outside of it."""
        return self.budget_bytes + self.engine.context


def charges(
    engines: Sequence[Engine], layout: Layout, rooms: Mapping[int, Room]
) -> tuple[Charge, ...]:
    """Return what each engine is charged under *layout*, in the order of the profile.

    Engines that state something come first; those that state nothing share what is left.
    """
    done: dict[str, Charge] = {}
    left = {index: room.available_bytes for index, room in rooms.items()}
    sharing = [e for e in engines if shares(e)]
    for engine in engines:
        if shares(engine):
            continue
        charge = _stated(engine, layout[engine.spec.name], rooms)
        done[engine.spec.name] = charge
        for index, budget in zip(charge.gpus, charge.budgets, strict=True):
            left[index] -= budget + engine.context
            if charge.elastic:
                # It may take more than the median; sharing that out would make it risky.
                left[index] -= engine.margin_bytes
    totals = {index: room.gpu.total_bytes for index, room in rooms.items()}
    pools = fair_pools(sharing, layout, left, totals)
    for engine in sharing:
        name = engine.spec.name
        done[name] = _shared(engine, layout[name], rooms, pools.get(name, 0))
    return tuple(done[e.spec.name] for e in engines)


def shares(engine: Engine) -> bool:
    """Whether the profile states nothing, so that the engine gets its share of what is left."""
    spec = engine.spec
    return (
        spec.memory_bytes is None
        and spec.gpu_memory_utilization is None
        and spec.kv_cache_memory_bytes is None
        and spec.demand is None
    )


def shortfalls(made: Sequence[Charge], rooms: Mapping[int, Room]) -> tuple[Shortfall, ...]:
    """Return every need that is not met: a budget below the promise, or a GPU that is full.

    On a GPU that is full the smallest engines are charged first, so that what does not fit is
    named with the least that is missing. What an engine must have while it loads has to be there
    while all others run: they do when it is restarted.
    """
    found = []
    for charge in made:
        engine = charge.engine
        if charge.gpus and charge.pool_bytes < engine.promise_bytes:
            needed = engine.least_bytes + engine.context
            found.append(
                Shortfall(
                    model=engine.spec.name,
                    gpu=charge.gpus[0],
                    needed_bytes=needed + _rounding(charge, needed),
                    available_bytes=charge.reserved_bytes,
                )
            )
    for index, room in sorted(rooms.items()):
        left = room.available_bytes
        here = [c for c in made if index in c.gpus]
        spare = max(0, left - sum(_on(charge, index) for charge in here))
        for charge in sorted(here, key=lambda c: (c.reserved_bytes, c.engine.spec.name)):
            needed = _on(charge, index)
            loading = charge.engine.loading_peak + charge.engine.context
            for wanted, there in ((needed, left), (loading, needed + spare)):
                if wanted > there:
                    found.append(
                        Shortfall(
                            model=charge.engine.spec.name,
                            gpu=index,
                            needed_bytes=max(needed, loading),
                            available_bytes=max(0, min(left, there)),
                        )
                    )
                    break
            left -= needed
    return tuple(found)


def _on(charge: Charge, gpu: int) -> int:
    """What *charge* takes of that GPU: its budget and what is outside of it."""
    return charge.budgets[charge.gpus.index(gpu)] + charge.engine.context


def _rounding(charge: Charge, needed: int) -> int:
    """A pool may miss its promise while the budget seems enough: name at least one byte."""
    return max(0, charge.reserved_bytes + 1 - needed)


def _stated(engine: Engine, gpus: tuple[int, ...], rooms: Mapping[int, Room]) -> Charge:
    spec = engine.spec
    cards = [rooms[index].gpu for index in gpus]
    wanted = [asked_bytes(engine, card) for card in cards]
    fraction = spec.gpu_memory_utilization
    if fraction is None:
        # One flag for all ranks: the card where the budget is the largest share decides.
        fraction = max((fraction_up(c, w) for c, w in zip(cards, wanted, strict=True)), default=0.0)
    budgets = tuple(
        max(want, charged_bytes(card, fraction)) for card, want in zip(cards, wanted, strict=True)
    )
    exact = spec.kv_cache_memory_bytes
    pool = exact if exact is not None else min(budgets, default=0) - engine.fixed_bytes
    return Charge(
        engine=engine,
        gpus=gpus,
        fraction=fraction,
        budgets=budgets,
        pool_bytes=pool,
        elastic=exact is not None
        or (spec.memory_bytes is None and spec.gpu_memory_utilization is None),
    )


def _shared(engine: Engine, gpus: tuple[int, ...], rooms: Mapping[int, Room], pool: int) -> Charge:
    cards = [rooms[index].gpu for index in gpus]
    if pool < engine.promise_bytes:
        # Not even one request: charge what one takes, so that the card's shortfall shows.
        budget = engine.least_bytes
        fraction = max((fraction_up(card, budget) for card in cards), default=0.0)
    else:
        # Rounded down, because what is left is all there is. The pool is of the smallest card.
        budget = engine.fixed_bytes + pool
        fraction = max((fraction_down(card, budget) for card in cards), default=0.0)
    budgets = tuple(charged_bytes(card, fraction) for card in cards)
    return Charge(
        engine=engine,
        gpus=gpus,
        fraction=fraction,
        budgets=budgets,
        pool_bytes=min(budgets, default=0) - engine.fixed_bytes,
        elastic=False,
    )
