"""What a worker counts, and the sum of what all workers count.

Labels are names out of the profile and words out of this package, never a client's, so their
number is bounded.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.parser import text_string_to_metric_families

from gpuserve.router.links import Tally
from gpuserve.routing.choose import Choice, Refusal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

DECISION_BUCKETS_S = (5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 5e-2, 0.1, 1)
ADDED_BUCKETS_S = (2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 5e-2, 0.1, 1)
FIRST_BYTE_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The counters of one worker."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "gpuserve_router_requests",
            "Requests answered, by model, route and class of status; no model: none was chosen.",
            ("model", "route", "status"),
            registry=registry,
        )
        self.decision_s = Histogram(
            "gpuserve_router_decision_seconds",
            "Time from a request's last byte to the choice of a model.",
            buckets=DECISION_BUCKETS_S,
            registry=registry,
        )
        self.added_s = Histogram(
            "gpuserve_router_added_seconds",
            "Time from a request's last byte until it is sent on; the fast path counts dialling.",
            buckets=ADDED_BUCKETS_S,
            registry=registry,
        )
        self.first_byte_s = Histogram(
            "gpuserve_router_first_byte_seconds",
            "Time from a request's last byte to the head of the answer.",
            ("model",),
            buckets=FIRST_BYTE_BUCKETS_S,
            registry=registry,
        )
        self.aborts = Counter(
            "gpuserve_router_aborts",
            "Answers cut short: the client left, or the upstream died.",
            ("model", "cause"),
            registry=registry,
        )
        self.fallbacks = Counter(
            "gpuserve_router_fallbacks",
            "Requests that the first choice could not serve, by the model that did.",
            ("model",),
            registry=registry,
        )
        self.passed_over = Counter(
            "gpuserve_router_passed_over",
            "Requests that another model served, by the first choice and why it did not: "
            "capability, context, not_ready, unreachable, full.",
            ("model", "cause"),
            registry=registry,
        )
        self.decisions = Counter(
            "gpuserve_router_decisions",
            "Requests by what decided their route: explicit, header, rule, kind, classifier, "
            "default, only.",
            ("step", "route"),
            registry=registry,
        )
        self.lowered = Counter(
            "gpuserve_router_max_tokens_lowered",
            "Requests whose max_tokens was lowered to what the context leaves.",
            ("model",),
            registry=registry,
        )
        self.tokenized = Counter(
            "gpuserve_router_tokenized",
            "Prompts near the edge of a context, by what their engine's tokenizer said: counted, "
            "or no answer.",
            ("model", "outcome"),
            registry=registry,
        )
        self.unsure = Counter(
            "gpuserve_router_unsure",
            "Verdicts that were unsure and went to the default.",
            registry=registry,
        )
        self.refusals = Counter(
            "gpuserve_router_refusals",
            "Requests that were answered here with an error, by its code.",
            ("code",),
            registry=registry,
        )
        self._held = Gauge(
            "gpuserve_router_held_bytes",
            "Bytes of request bodies that wait for the beginning of their answers.",
            registry=registry,
        )
        self._in_flight = Gauge(
            "gpuserve_router_in_flight",
            "Requests that wait for an answer or receive one.",
            ("model",),
            registry=registry,
        )
        workers = Gauge(
            "gpuserve_router_workers", "Router processes that answered.", registry=registry
        )
        workers.set(1)

    def answered(self, choice: Choice, status: int) -> None:
        """Count a request that *choice* answered with *status*."""
        self.requests.labels(choice.model, choice.route, f"{status // 100}xx").inc()
        self.decisions.labels(choice.step, choice.route).inc()
        if choice.fallback is not None:
            self.fallbacks.labels(choice.model).inc()
            self.passed_over.labels(choice.wanted or "", choice.cause or "").inc()
        if choice.edits:
            self.lowered.labels(choice.model).inc()
        if choice.verdict is not None and choice.verdict.route == "unsure":
            self.unsure.inc()

    def refused(self, refusal: Refusal) -> None:
        """Count a request that nobody answered; its model is the one it was meant for, if any."""
        status = f"{refusal.status // 100}xx"
        self.requests.labels(refusal.model or "", refusal.route or "none", status).inc()
        self.refusals.labels(refusal.code).inc()

    def render(
        self, tallies: Mapping[str, Tally], further: str = "", *, held_bytes: int = 0
    ) -> str:
        """Return this worker's metrics in Prometheus' text format.

        *further* is what its other side counted, in the same format; *held_bytes* are those of
        both.
        """
        self._held.set(held_bytes)
        for name, tally in tallies.items():
            self._in_flight.labels(name).set(tally.in_flight)
        return summed([generate_latest(self._registry).decode(), _connections(tallies), further])


def _connections(tallies: Mapping[str, Tally]) -> str:
    """Return what both sides count in the same place, in Prometheus' text format."""
    opened, retries = "gpuserve_router_upstream_connections_total", "gpuserve_router_retries_total"
    lines = [
        f"# HELP {opened} Connections that requests went over: new ones, and ones used before.",
        f"# TYPE {opened} counter",
    ]
    for name, tally in tallies.items():
        for kind, count in (("new", tally.dialled), ("reused", tally.reused)):
            lines.append(f'{opened}{{upstream="{escaped(name)}",kind="{kind}"}} {float(count)}')
    lines += [
        f"# HELP {retries} Requests that met an idle connection just closed, sent once more.",
        f"# TYPE {retries} counter",
    ]
    for name, tally in tallies.items():
        lines.append(f'{retries}{{upstream="{escaped(name)}"}} {float(tally.retries)}')
    return "\n".join(lines) + "\n"


def summed(texts: Iterable[str]) -> str:
    """Return the sum of several workers' metrics; all of ours may be added up, gauges too."""
    heads: dict[str, tuple[str, str]] = {}
    sums: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for text in texts:
        for family in text_string_to_metric_families(text):
            if family.name not in heads or not heads[family.name][1]:
                heads[family.name] = (family.type, family.documentation)
            samples = sums.setdefault(family.name, {})
            for sample in family.samples:
                key = (sample.name, tuple(sorted(sample.labels.items())))
                samples[key] = samples.get(key, 0.0) + sample.value
    lines: list[str] = []
    for name, (kind, documentation) in heads.items():
        shown = f"{name}_total" if kind == "counter" else name
        lines += [f"# HELP {shown} {documentation}", f"# TYPE {shown} {kind}"]
        lines += [f"{n}{_labels(labels)} {value}" for (n, labels), value in sums[name].items()]
    return "\n".join(lines) + "\n"


_ESCAPES: Mapping[int, str] = MappingProxyType(
    str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
)


def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    if not labels:
        return ""
    inner = ",".join(f'{name}="{escaped(value)}"' for name, value in labels)
    return f"{{{inner}}}"


def escaped(value: str) -> str:
    """Return a label's *value* as Prometheus' text format writes it."""
    return value.translate(_ESCAPES)
