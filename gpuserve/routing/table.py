"""routing.json as values: what a router worker knows about models, and nothing else.

The controller writes the file, atomically; workers read it at start and when told to, so
they serve without a controller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gpuserve.plan import Capabilities, Launch
from gpuserve.profile.spec import LimitsSpec, Profile, RoutingSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """One place that answers requests: an engine of this instance, or a server elsewhere.

    `names` are the public model names that lead here, the canonical one first. `url` is the
    base URL; where `socket` is set, requests go over that Unix socket instead and `url` only
    supplies the Host header. `routable` is the controller's word; `state` and `reason` say
    why not ("Starting", "loading weights"), `retry_after_s` when to try again.
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
    capabilities: Capabilities = Capabilities()


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingTable:
    """Everything a router worker decides by.

    `epoch` is when the controller that wrote it started, in Unix seconds; `generation` grows
    with each write of that controller. `version` is both. `limits` are those of one worker: its
    share of what all may hold. `allowed_origins` are the web pages that browsers let in.
    """

    instance: str
    generation: int
    routing: RoutingSpec
    upstreams: tuple[Upstream, ...]
    limits: LimitsSpec = LimitsSpec()
    allowed_origins: tuple[str, ...] = ()
    epoch: float = 0.0

    @property
    def version(self) -> tuple[float, int]:
        """Return what is greater for the newer of two tables of one instance."""
        return self.epoch, self.generation


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineWord:
    """What the controller says about one engine now; see Upstream for the fields."""

    state: str
    routable: bool
    reason: str | None = None
    retry_after_s: float | None = None


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
    )


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
        capabilities=launch.capabilities,
    )
