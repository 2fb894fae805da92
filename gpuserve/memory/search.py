"""A placement by trying all of them, for when the good guesses do not fit.

Depth first, the largest engine first, and bounded: cards that are alike are tried once, and a
branch ends where a card is full. On boxes of up to eight cards and as many engines this visits
every placement; on larger ones it gives up after `_MOST_STEPS`.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from gpuserve.memory.engine import Engine
from gpuserve.memory.rooms import Room

Layout = dict[str, tuple[int, ...]]
Needs = Mapping[str, Mapping[int, int]]

# About 10 us each: a quarter of a second (measured on 2 virtual cores).
_MOST_STEPS = 20_000


def able(engine: Engine, rooms: Mapping[int, Room]) -> Mapping[int, Room]:
    """Return the *rooms* on cards that *engine* can run on; all, where those are too few."""
    found = {index: room for index, room in rooms.items() if index not in engine.barred_gpus}
    return found if len(found) >= engine.ranks else rooms


def searched(engines: Sequence[Engine], rooms: Mapping[int, Room], needs: Needs) -> Layout | None:
    """Return a layout in which every card holds its engines, None where there is none.

    *engines* are tried in their order; *needs* has for each, by name, the bytes that it takes of
    each card. None also where the search was given up.
    """
    left = {index: room.available_bytes for index, room in rooms.items()}
    layout: Layout = {}
    steps = [_MOST_STEPS]
    return layout if _fill(list(engines), rooms, needs, left, layout, steps) else None


def _fill(
    engines: list[Engine],
    rooms: Mapping[int, Room],
    needs: Needs,
    left: dict[int, int],
    layout: Layout,
    steps: list[int],
) -> bool:
    if not engines:
        return True
    engine, rest = engines[0], engines[1:]
    need = needs[engine.spec.name]
    for cards in _choices(engine, rooms, left, need):
        steps[0] -= 1
        if steps[0] < 0:
            return False
        for index in cards:
            left[index] -= need[index]
        layout[engine.spec.name] = cards
        if _fill(rest, rooms, needs, left, layout, steps):
            return True
        del layout[engine.spec.name]
        for index in cards:
            left[index] += need[index]
    return False


def _choices(
    engine: Engine, rooms: Mapping[int, Room], left: Mapping[int, int], need: Mapping[int, int]
) -> Iterator[tuple[int, ...]]:
    """Yield the sets of cards that hold *engine*, the fullest first; of equal sets the first."""
    if engine.spec.gpus is not None:
        if all(left[index] >= need[index] for index in engine.spec.gpus):
            yield engine.spec.gpus
        return
    holds = sorted(
        (index for index in able(engine, rooms) if left[index] >= need[index]),
        key=lambda i: (left[i], i),
    )
    seen = set()
    for cards in combinations(holds, engine.ranks):
        kinds = tuple(sorted((rooms[i].gpu.total_bytes, left[i]) for i in cards))
        if kinds not in seen:
            seen.add(kinds)
            yield tuple(sorted(cards))
