"""routing.json as values: what a router worker knows about models, and nothing else.

The controller writes the file, atomically; workers read it at start and when told to, so
they serve without a controller.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from gpuserve.plan import Capabilities, Launch
from gpuserve.profile.spec import LimitsSpec, Profile, RoutingSpec, UpstreamSpec
from gpuserve.routing.classify import UNSURE
from gpuserve.routing.rules import Rule, rules_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure of an engine's memory, as `status` has it; a router only shows it.

    `kind` is "predicted" or "actual", `name` a key such as `weights_bytes`, per GPU.
    """

    kind: str
    name: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """One place that answers requests: an engine of this instance, or a server elsewhere.

    `names` are the public model names that lead here, the canonical one first. `url` is the
    base URL; where `socket` is set, requests go over that Unix socket instead and `url` only
    supplies the Host header. `routable` is the controller's word; `state` and `reason` say
    why not ("Starting", "loading weights"), `retry_after_s` when to try again. `served_names` are
    those that the server itself answers to: a body with another name is changed. `keepalive_s` is
    for how long it keeps an idle connection, None where nobody knows. `figures` are what it was
    planned to take and what it took.
    """

    name: str
    names: tuple[str, ...]
    url: str
    socket: str | None = None
    managed: bool = True
    state: str = "Stopped"
    routable: bool = False
    reason: str | None = None
    retry_after_s: float | None = None
    served_names: tuple[str, ...] = ()
    keepalive_s: float | None = None
    capabilities: Capabilities = Capabilities()
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """One model of one upstream; engines have one, servers elsewhere may have several."""

    upstream: Upstream
    model: str


@dataclass(frozen=True, kw_only=True)  # without slots: what follows from it is made once and kept
class RoutingTable:
    """Everything a router worker decides by.

    `epoch` is when the controller that wrote it started, in Unix seconds; `generation` grows
    with each write of that controller. `version` is both. `limits` are those of one worker: its
    share of what all may hold. `allowed_origins` are the web pages that browsers let in.
    `workers` is how many router processes share the requests.
    """

    instance: str
    generation: int
    routing: RoutingSpec
    upstreams: tuple[Upstream, ...]
    limits: LimitsSpec = LimitsSpec()
    allowed_origins: tuple[str, ...] = ()
    epoch: float = 0.0
    workers: int = 1

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields alone: what follows from them is made anew, in another process too."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def version(self) -> tuple[float, int]:
        """Return what is greater for the newer of two tables of one instance."""
        return self.epoch, self.generation

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """Every model, under its canonical name."""
        return tuple(
            Target(upstream, name)
            for upstream in self.upstreams
            for name in (upstream.names[:1] if upstream.managed else upstream.names)
        )

    @cached_property
    def by_name(self) -> Mapping[str, Target]:
        """What each name and alias stands for."""
        found: dict[str, Target] = {}
        for upstream in self.upstreams:
            for name in upstream.names:
                model = upstream.names[0] if upstream.managed else name
                found.setdefault(name, Target(upstream, model))
        return found

    @cached_property
    def chains(self) -> Mapping[str, tuple[Target, ...]]:
        """Each route's models: the first choice, then those that stand in for it, in order.

        Empty where the profile has no routes.
        """
        routing = self.routing
        named = {"code": routing.code, "general": routing.general, "default": routing.default}
        usual = (routing.default, routing.general, routing.code)
        standins: Sequence[str | None] = usual if routing.fallback is None else routing.fallback
        chains = {route: self._chain(name, standins) for route, name in named.items()}
        for rule in routing.rules:
            if rule.name not in chains:
                own = standins if rule.fallback is None else rule.fallback
                chains[rule.name] = self._chain(rule.model, own)
        return {route: chain for route, chain in chains.items() if chain}

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that lead somewhere, ready to be tried."""
        return tuple(rule for rule in rules_of(self.routing.rules) if rule.route in self.chains)

    @cached_property
    def unsure(self) -> tuple[float, float]:
        """Between which probabilities of code a prompt is neither code nor general.

        One threshold moves the classifier's own band along, by the same odds.
        """
        threshold = self.routing.threshold
        if not threshold:
            return UNSURE
        if len(threshold) > 1:
            return threshold[0], threshold[1]
        odds = _logit(threshold[0])
        return _sigmoid(odds + _logit(UNSURE[0])), _sigmoid(odds + _logit(UNSURE[1]))

    def _chain(self, first: str | None, standins: Sequence[str | None]) -> tuple[Target, ...]:
        if first is None or first not in self.by_name:
            return ()
        found = (self.by_name.get(name) for name in (first, *standins) if name is not None)
        return tuple(dict.fromkeys(target for target in found if target is not None))


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineWord:
    """What the controller says about one engine now; see Upstream for the fields."""

    state: str
    routable: bool
    reason: str | None = None
    retry_after_s: float | None = None
    served_names: tuple[str, ...] = ()
    keepalive_s: float | None = None
    figures: tuple[Figure, ...] = ()


EXTERNAL = "External"  # the state of a server that gpuserve does not run


def table_of(
    profile: Profile,
    *,
    instance: str,
    generation: int,
    launches: Sequence[Launch],
    states: Mapping[str, EngineWord],
    epoch: float = 0.0,
) -> RoutingTable:
    """Return the table for *profile*, whose engines start as *launches* say.

    *epoch* is when the controller started, in Unix seconds: its tables follow those of the
    controllers before it, whatever their generations.
    *states* holds a word for each engine, by name; one without a word is Stopped. A server that
    gpuserve does not run is routable unless there is a word against it.
    """
    silent = EngineWord(state="Stopped", routable=False)
    engines = tuple(_engine(launch, states.get(launch.name, silent)) for launch in launches)
    elsewhere = tuple(
        Upstream(
            name=spec.name,
            names=spec.models,
            url=spec.url,
            managed=False,
            state=EXTERNAL,
            routable=states[spec.name].routable if spec.name in states else True,
            reason=states[spec.name].reason if spec.name in states else None,
            retry_after_s=states[spec.name].retry_after_s if spec.name in states else None,
            capabilities=stated_capabilities(spec),
        )
        for spec in profile.upstreams
    )
    return RoutingTable(
        instance=instance,
        generation=generation,
        epoch=epoch,
        routing=profile.routing,
        limits=replace(
            profile.limits,
            max_buffered_bytes=profile.limits.max_buffered_bytes // profile.server.workers,
        ),
        allowed_origins=profile.server.allowed_origins,
        upstreams=engines + elsewhere,
        workers=profile.server.workers,
    )


def stated_capabilities(spec: UpstreamSpec) -> Capabilities:
    """Return what the profile says that a server elsewhere can do."""
    can = spec.capabilities
    if can is None:
        return Capabilities(max_model_len=spec.max_model_len)
    embeds = "embeddings" in can
    return Capabilities(
        chat="chat" in can,
        tools="tools" in can,
        images="images" in can,
        structured="json_schema" in can,
        # Of a server with models of both kinds it cannot be told which is which.
        embeddings=None if embeds and "chat" in can else embeds,
        max_model_len=spec.max_model_len,
    )


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def _sigmoid(odds: float) -> float:
    return 1 / (1 + math.exp(-odds))


def _engine(launch: Launch, word: EngineWord) -> Upstream:
    return Upstream(
        name=launch.name,
        names=(launch.name, *launch.aliases),
        # The name after a Unix socket only fills the Host header.
        url=f"http://127.0.0.1:{launch.port}" if launch.port is not None else "http://localhost",
        socket=launch.socket,
        state=word.state,
        routable=word.routable,
        reason=word.reason,
        retry_after_s=word.retry_after_s,
        served_names=word.served_names,
        keepalive_s=word.keepalive_s,
        capabilities=launch.capabilities,
        figures=word.figures,
    )
