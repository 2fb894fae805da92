"""What the fast path counts: plain integers, put into words when they are asked for.

The families are those of `metrics`, so that both sides add up.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

from gpuserve.router import metrics
from gpuserve.routing.choose import Choice, Refusal

_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")


class Buckets:
    """A histogram of seconds; *bounds_s* ascend, and what is larger goes into one more."""

    __slots__ = ("_bounds_s", "_first_s", "counts", "sum_s")

    def __init__(self, bounds_s: Sequence[float]) -> None:
        self._bounds_s = tuple(bounds_s)
        self._first_s = self._bounds_s[0]
        self.counts = [0] * (len(self._bounds_s) + 1)
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        if seconds <= self._first_s:  # as most are
            self.counts[0] += 1
        else:
            self.counts[bisect_left(self._bounds_s, seconds)] += 1
        self.sum_s += seconds

    def samples(self, name: str, labels: str = "") -> Iterator[str]:
        """Return the lines of Prometheus' text format; *labels* are `name="value"` pairs."""
        comma = "," if labels else ""
        braced = f"{{{labels}}}" if labels else ""
        total = 0
        for bound, count in zip((*self._bounds_s, None), self.counts, strict=True):
            total += count
            le = "+Inf" if bound is None else repr(float(bound))
            yield f'{name}_bucket{{{labels}{comma}le="{le}"}} {float(total)}'
        yield f"{name}_count{braced} {float(total)}"
        yield f"{name}_sum{braced} {self.sum_s}"


class ModelCounts:
    """What went to one model; cut answers by cause, `client` or `upstream`."""

    __slots__ = ("client_left", "fallbacks", "first_byte_s", "routes", "upstream_died")

    def __init__(self) -> None:
        self.routes: dict[str, list[int]] = {}
        self.fallbacks = 0
        self.client_left = 0
        self.upstream_died = 0
        self.first_byte_s = Buckets(metrics.FIRST_BYTE_BUCKETS_S)

    def route(self, name: str) -> list[int]:
        """Return the answers by class of status, 1xx first, of the route *name*."""
        return self.routes.setdefault(name, [0] * len(_CLASSES))


class Counts:
    """The counters of the fast path of one worker; labels are names out of the profile."""

    __slots__ = (
        "added_s",
        "codes",
        "decided",
        "decision_s",
        "models",
        "passed_over",
        "refused",
        "unsure",
    )

    def __init__(self) -> None:
        self.models: dict[str, ModelCounts] = {}
        self.decided: dict[tuple[str, str], list[int]] = {}
        self.passed_over: dict[tuple[str, str], int] = {}
        self.refused: dict[tuple[str, str], list[int]] = {}
        self.codes: dict[str, int] = {}
        self.unsure = 0
        self.decision_s = Buckets(metrics.DECISION_BUCKETS_S)
        self.added_s = Buckets(metrics.ADDED_BUCKETS_S)

    def model(self, name: str) -> ModelCounts:
        """Return the counters of the model *name*, new where there are none."""
        found = self.models.get(name)
        if found is None:
            found = self.models[name] = ModelCounts()
        return found

    def decided_by(self, step: str, route: str) -> list[int]:
        """Return the number, as its only item, of the answers on *route* that *step* decided."""
        return self.decided.setdefault((step, route), [0])

    def count_special(self, choice: Choice) -> None:
        """Count an answer that was not the first choice's, or rests on an unsure verdict."""
        if choice.fallback is not None:
            self.model(choice.model).fallbacks += 1
            key = (choice.wanted or "", choice.cause or "")
            self.passed_over[key] = self.passed_over.get(key, 0) + 1
        if choice.verdict is not None and choice.verdict.route == "unsure":
            self.unsure += 1

    def refuse(self, refusal: Refusal) -> None:
        """Count a request that nobody answered."""
        key = (refusal.model or "", refusal.route or "none")
        self.refused.setdefault(key, [0] * len(_CLASSES))[refusal.status // 100 - 1] += 1
        self.codes[refusal.code] = self.codes.get(refusal.code, 0) + 1

    def render(self) -> str:
        """Return everything in Prometheus' text format."""
        rows = {metrics.escaped(name): model for name, model in self.models.items()}
        lines: list[str] = []
        for family, kind, samples in (
            ("gpuserve_router_requests_total", "counter", self._requests(rows)),
            ("gpuserve_router_refusals_total", "counter", self._refusals()),
            ("gpuserve_router_aborts_total", "counter", _aborts(rows)),
            ("gpuserve_router_fallbacks_total", "counter", _fallbacks(rows)),
            ("gpuserve_router_unsure_total", "counter", self._unsure()),
            ("gpuserve_router_decisions_total", "counter", self._decisions()),
            ("gpuserve_router_passed_over_total", "counter", self._passed_over()),
            (_DECISION, "histogram", self.decision_s.samples(_DECISION)),
            (_ADDED, "histogram", self.added_s.samples(_ADDED)),
            (_FIRST_BYTE, "histogram", _first_bytes(rows)),
        ):
            lines += [f"# TYPE {family} {kind}", *samples]
        return "\n".join(lines) + "\n"

    def _requests(self, rows: Mapping[str, ModelCounts]) -> Iterator[str]:
        name = "gpuserve_router_requests_total"
        routes = [(m, r, counts) for m, row in rows.items() for r, counts in row.routes.items()]
        refused = [(metrics.escaped(m), r, counts) for (m, r), counts in self.refused.items()]
        for model, route, counts in (*routes, *refused):
            for status, count in zip(_CLASSES, counts, strict=True):
                if count:
                    labels = f'model="{model}",route="{metrics.escaped(route)}",status="{status}"'
                    yield f"{name}{{{labels}}} {float(count)}"

    def _decisions(self) -> Iterator[str]:
        for (step, route), (count,) in self.decided.items():
            labels = f'step="{step}",route="{metrics.escaped(route)}"'
            yield f"gpuserve_router_decisions_total{{{labels}}} {float(count)}"

    def _passed_over(self) -> Iterator[str]:
        for (model, cause), count in self.passed_over.items():
            labels = f'model="{metrics.escaped(model)}",cause="{cause}"'
            yield f"gpuserve_router_passed_over_total{{{labels}}} {float(count)}"

    def _refusals(self) -> Iterator[str]:
        for code, count in self.codes.items():
            yield f'gpuserve_router_refusals_total{{code="{code}"}} {float(count)}'

    def _unsure(self) -> Iterator[str]:
        yield f"gpuserve_router_unsure_total {float(self.unsure)}"


_DECISION = "gpuserve_router_decision_seconds"
_ADDED = "gpuserve_router_added_seconds"
_FIRST_BYTE = "gpuserve_router_first_byte_seconds"


def _aborts(rows: Mapping[str, ModelCounts]) -> Iterator[str]:
    for model, row in rows.items():
        for cause, count in (("client", row.client_left), ("upstream", row.upstream_died)):
            if count:
                yield (
                    f'gpuserve_router_aborts_total{{model="{model}",cause="{cause}"}} '
                    f"{float(count)}"
                )


def _fallbacks(rows: Mapping[str, ModelCounts]) -> Iterator[str]:
    for model, row in rows.items():
        if row.fallbacks:
            yield f'gpuserve_router_fallbacks_total{{model="{model}"}} {float(row.fallbacks)}'


def _first_bytes(rows: Mapping[str, ModelCounts]) -> Iterator[str]:
    for model, row in rows.items():
        yield from row.first_byte_s.samples(_FIRST_BYTE, f'model="{model}"')
