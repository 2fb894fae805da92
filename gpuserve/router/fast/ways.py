"""Where a request goes, decided on its bytes where they are enough, and what that takes."""

import json
from dataclasses import MISSING, fields
from operator import attrgetter

from gpuserve.router import headers
from gpuserve.router.apierrors import Api, api_of
from gpuserve.router.aside import ASIDE_BYTES, MOST_OBJECTS
from gpuserve.router.counts import Counts, ModelCounts
from gpuserve.router.decide import need_from
from gpuserve.router.fast.pool import Address, Clock, Pool, address_of
from gpuserve.router.front import STARTING
from gpuserve.router.links import Links, Tally
from gpuserve.router.tablefile import TableFile
from gpuserve.routing.body import Dense, with_model
from gpuserve.routing.choose import Choice, Refusal, choose
from gpuserve.routing.peek import name_in
from gpuserve.routing.request import Need, plain_need, task_of
from gpuserve.routing.table import RoutingTable, Upstream

# A body up to this has no more objects than may be read here: each takes three bytes.
_SMALL_BYTES = 3 * MOST_OBJECTS
# What a Choice may say that is carried out here. Anything else is the slow side's.
_CARRIED = frozenset(
    (
        "upstream",
        "step",
        "route",
        "reason",
        "model",
        "rewrite",
        "fallback",
        "wanted",
        "cause",
        "verdict",
        "hits",
    )
)
_OTHERS = tuple(f for f in fields(Choice) if f.name not in _CARRIED)
_otherwise = attrgetter(*(f.name for f in _OTHERS))
_USUALLY = tuple(f.default for f in _OTHERS)


class Lane:
    """What all requests to one path have in common that reach one model by one step and route.

    `begin` is the request line and Host for the engine, `told` the headers about the choice for
    the client up to its reason, `statuses` the answers by class, `decided` the number of them;
    `name` is the model's, as JSON.
    """

    __slots__ = ("api", "begin", "counts", "decided", "name", "pool", "statuses", "told")

    def __init__(self, path: str, choice: Choice, pool: Pool, counts: Counts) -> None:
        self.pool = pool
        self.counts: ModelCounts = counts.model(choice.model)
        self.statuses = self.counts.route(choice.route)
        self.decided = counts.decided_by(choice.step, choice.route)
        self.api: Api = api_of(path)
        self.begin = b"POST " + path.encode() + b" HTTP/1.1\r\n" + pool.address.host_line
        self.name = json.dumps(choice.model).encode()
        told = headers.as_lines(headers.routed(choice))
        before = b"\r\nx-gpuserve-reason: "
        self.told = told[: told.index(before) + len(before)]


class Way:
    """How a request reaches a model, or all those that name it.

    `told` are the headers about the choice for the client; `body` is sent instead of what came,
    where it is not None; `special` says that the choice is counted in further ways.
    """

    __slots__ = ("body", "choice", "lane", "special", "told")

    def __init__(self, lane: Lane, choice: Choice) -> None:
        self.lane = lane
        self.choice = choice
        self.body: bytes | None = None
        if choice.fallback is None:
            self.special = choice.verdict is not None
            self.told = b"%b%b\r\n" % (lane.told, headers.printable(choice.reason).encode("ascii"))
        else:
            self.special = True
            self.told = headers.as_lines(headers.routed(choice))


class Ways:
    """The decisions of the fast path, by the table in force."""

    def __init__(self, tables: TableFile, links: Links, counts: Counts, clock: Clock) -> None:
        self._tables = tables
        self._links = links
        self._counts = counts
        self._clock = clock
        self._table: RoutingTable | None = None
        self._pools: dict[str, Pool] = {}
        self._retired: list[Pool] = []
        self._addresses: dict[tuple[str, str | None, float | None], Address | None] = {}
        self._lanes: dict[tuple[str, ...], Lane] = {}
        self._named: dict[tuple[str, bytes], Way] = {}
        self._by_turns = False  # nothing but the turns of a chat request decides
        self._asks_for_auto: tuple[bytes, ...] = ()  # how most bodies begin that ask for it
        self._by_header = False  # rules look at headers, which are not read here

    def decide(self, path: str, data: bytes, start: int) -> Way | Refusal | None:
        """Return the way of a request whose body begins at *start*; None for the slow side."""
        table = self._tables.table
        if table is not self._table:
            if table is None:
                return STARTING
            self._renew(table)
        if self._by_turns and data.startswith(self._asks_for_auto, start):
            # Whatever else the body holds is read for its turns, and then a second name is found.
            return self._decide(path, data, start, None)
        spot = name_in(data, start)
        name = data[spot[0] : spot[1]] if spot is not None else b""
        if not self._links.any_dark:
            known = self._named.get((path, name))
            if known is not None:
                return known
        return self._decide(path, data, start, spot)

    def _decide(
        self, path: str, data: bytes, start: int, spot: tuple[int, int] | None
    ) -> Way | Refusal | None:
        """Return what `decide` does; *spot* is where the model's name stands, None for doubt."""
        table = self._table
        if table is None:
            return STARTING
        dark = self._links.dark()
        name = data[spot[0] : spot[1]].decode("ascii") if spot is not None else None
        named = name is not None and name in table.by_name
        # Whose max_tokens may be lowered, the whole body counts.
        by_name = named and not table.routing.clamp_max_tokens
        if by_name:
            need = Need(task=task_of(path), model=name)
        elif len(data) > ASIDE_BYTES or (not named and self._by_header):
            return None
        else:
            raw = data[start:]
            plain = plain_need(path, raw) if self._by_turns else None
            if plain is not None:
                need = plain
            else:
                few = MOST_OBJECTS if len(data) > _SMALL_BYTES else None
                try:
                    parsed = need_from("POST", path, "", raw, most_objects=few)
                except Dense:
                    return None
                if isinstance(parsed, Refusal):
                    return parsed
                need = parsed
        spills = table.routing.spill_over is not None
        choice = (
            choose(need, table, dark, self._links.load()) if spills else choose(need, table, dark)
        )
        if isinstance(choice, Refusal):
            return choice
        lane = self._lane(path, choice)
        if lane is None:
            return None
        way = Way(lane, choice)
        if choice.rewrite:
            spot = spot or name_in(data, start)
            if spot is not None:
                way.body = data[start : spot[0] - 1] + lane.name + data[spot[1] + 1 :]
            elif need.body:
                way.body = with_model(data[start:], need.body, choice.model)
            else:
                return None
        elif by_name and name is not None and not dark:
            self._named[path, name.encode()] = way
        return way

    def sweep(self, ahead_s: float) -> None:
        """Close connections that would have been idle for too long in *ahead_s*."""
        for pool in (*self._pools.values(), *self._retired):
            pool.sweep(ahead_s)

    def close(self) -> None:
        """Close every connection that is idle."""
        for pool in self._pools.values():
            pool.close()

    def _renew(self, table: RoutingTable) -> None:
        self._table = table
        self._named.clear()
        self._lanes.clear()
        places = {(u.url, u.socket, u.keepalive_s) for u in table.upstreams}
        self._addresses = {p: a for p, a in self._addresses.items() if p in places}
        self._by_turns = not table.routing.rules and not table.routing.clamp_max_tokens
        auto = json.dumps(table.routing.auto).encode()
        self._asks_for_auto = (b'{"model":' + auto, b'{"model": ' + auto)
        self._by_header = any(rule.header for rule in table.routing.rules)
        names = {upstream.name for upstream in table.upstreams}
        for name in [n for n in self._pools if n not in names]:
            self._retire(name)
        self._retired = [pool for pool in self._retired if not pool.empty]

    def _lane(self, path: str, choice: Choice) -> Lane | None:
        """Return the lane of *choice*, None where it is the slow side's."""
        if _otherwise(choice) != _USUALLY:
            return None
        upstream = choice.upstream
        key = (path, choice.step, choice.route, choice.model, upstream.name)
        lane = self._lanes.get(key)
        if lane is None:
            pool = self._pool(upstream)
            if pool is not None:
                lane = self._lanes[key] = Lane(path, choice, pool, self._counts)
        return lane

    def _pool(self, upstream: Upstream) -> Pool | None:
        place = (upstream.url, upstream.socket, upstream.keepalive_s)
        if place not in self._addresses:
            self._addresses[place] = address_of(upstream)
        address = self._addresses[place]
        if address is None:
            return None
        pool = self._pools.get(upstream.name)
        if pool is None or pool.address is not address:
            self._retire(upstream.name)
            tally = self._links.tallies.setdefault(upstream.name, Tally())
            pool = self._pools[upstream.name] = Pool(upstream.name, address, tally, self._clock)
        return pool

    def _retire(self, name: str) -> None:
        pool = self._pools.pop(name, None)
        if pool is not None:
            pool.close()
            self._retired.append(pool)


assert all(default is not MISSING for default in _USUALLY)
