"""Where a request goes, decided on its bytes where they are enough, and what that takes."""

from collections.abc import Callable
from dataclasses import MISSING, fields

from gpuserve.router import headers
from gpuserve.router.apierrors import Api, api_of
from gpuserve.router.counts import Counts, ModelCounts
from gpuserve.router.decide import need_from
from gpuserve.router.fast.pool import Address, Pool, address_of
from gpuserve.router.front import STARTING
from gpuserve.router.links import Links, Tally
from gpuserve.router.tablefile import TableFile
from gpuserve.routing.body import with_model
from gpuserve.routing.choose import Choice, Refusal, choose
from gpuserve.routing.peek import model_in
from gpuserve.routing.request import Need, task_of
from gpuserve.routing.table import RoutingTable

# Parsing more than this would hold up everybody else; the slow side does it in a thread.
_PARSE_BYTES = 256 << 10
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
_OTHERWISE = tuple((f.name, f.default) for f in fields(Choice) if f.name not in _CARRIED)


class Way:
    """How requests to one path reach one model; shared by all that do so for the same reason.

    `begin` is the request line and Host for the engine, `told` the headers about the choice for
    the client, `statuses` the answers by class, `decided` the number of them. `body` is sent
    instead of what came, where it is not None; `special` says that the choice is counted in
    further ways.
    """

    __slots__ = (
        "api",
        "begin",
        "body",
        "choice",
        "counts",
        "decided",
        "pool",
        "special",
        "statuses",
        "told",
    )

    def __init__(self, path: str, choice: Choice, pool: Pool, counts: Counts) -> None:
        self.choice = choice
        self.body: bytes | None = None
        self.special = choice.fallback is not None or choice.verdict is not None
        self.pool = pool
        self.counts: ModelCounts = counts.model(choice.model)
        self.statuses = self.counts.route(choice.route)
        self.decided = counts.decided_by(choice.step, choice.route)
        self.api: Api = api_of(path)
        self.begin = b"POST " + path.encode() + b" HTTP/1.1\r\n" + pool.address.host_line
        self.told = headers.as_lines(headers.routed(choice))


class Ways:
    """The decisions of the fast path, by the table in force."""

    def __init__(
        self, tables: TableFile, links: Links, counts: Counts, now: Callable[[], int]
    ) -> None:
        self._tables = tables
        self._links = links
        self._counts = counts
        self._now = now
        self._table: RoutingTable | None = None
        self._pools: dict[str, Pool] = {}
        self._retired: list[Pool] = []
        self._addresses: dict[tuple[str, str | None], Address | None] = {}
        self._named: dict[tuple[str, str], Way] = {}
        self._by_header = False  # rules look at headers, which are not read here

    def decide(self, path: str, data: bytes, start: int) -> Way | Refusal | None:
        """Return the way of a request whose body begins at *start*; None for the slow side."""
        table = self._tables.table
        if table is None:
            return STARTING
        if table is not self._table:
            self._renew(table)
        dark = self._links.dark()
        name = model_in(data, start)
        if name is not None and not dark:
            known = self._named.get((path, name))
            if known is not None:
                return known
        named = name is not None and name in table.by_name
        # Whose max_tokens may be lowered, the whole body counts.
        if named and not table.routing.clamp_max_tokens:
            need = Need(task=task_of(path), model=name)
        elif len(data) > _PARSE_BYTES or (not named and self._by_header):
            return None
        else:
            parsed = need_from("POST", path, "", data[start:])
            if isinstance(parsed, Refusal):
                return parsed
            need = parsed
        spills = table.routing.spill_over is not None
        choice = (
            choose(need, table, dark, self._links.load()) if spills else choose(need, table, dark)
        )
        if isinstance(choice, Refusal):
            return choice
        way = self._way(path, choice)
        if way is None:
            return None
        if choice.rewrite:
            if not need.body:
                return None
            way.body = with_model(data[start:], need.body, choice.model)
        elif name is not None and not need.body and not dark:
            self._named[path, name] = way
        return way

    def sweep(self, keep_s: float) -> None:
        """Close connections that have been idle for *keep_s*."""
        for pool in (*self._pools.values(), *self._retired):
            pool.sweep(keep_s)

    def close(self) -> None:
        """Close every connection that is idle."""
        for pool in self._pools.values():
            pool.close()

    def _renew(self, table: RoutingTable) -> None:
        self._table = table
        self._named.clear()
        places = {(upstream.url, upstream.socket) for upstream in table.upstreams}
        self._addresses = {p: a for p, a in self._addresses.items() if p in places}
        self._by_header = any(rule.header for rule in table.routing.rules)
        names = {upstream.name for upstream in table.upstreams}
        for name in [n for n in self._pools if n not in names]:
            self._retire(name)
        self._retired = [pool for pool in self._retired if not pool.empty]

    def _way(self, path: str, choice: Choice) -> Way | None:
        if any(getattr(choice, name) != otherwise for name, otherwise in _OTHERWISE):
            return None
        upstream = choice.upstream
        place = (upstream.url, upstream.socket)
        if place not in self._addresses:
            self._addresses[place] = address_of(upstream)
        address = self._addresses[place]
        if address is None:
            return None
        pool = self._pools.get(upstream.name)
        if pool is None or pool.address is not address:
            self._retire(upstream.name)
            tally = self._links.tallies.setdefault(upstream.name, Tally())
            pool = self._pools[upstream.name] = Pool(upstream.name, address, tally, self._now)
        return Way(path, choice, pool, self._counts)

    def _retire(self, name: str) -> None:
        pool = self._pools.pop(name, None)
        if pool is not None:
            pool.close()
            self._retired.append(pool)


assert all(default is not MISSING for _, default in _OTHERWISE)
