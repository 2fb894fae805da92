"""routing.json as values: what a router worker knows about models, and nothing else.

The controller writes the file, atomically; workers read it at start and when told to, so
they serve without a controller.
"""

from dataclasses import dataclass

from gpuserve.plan import Capabilities
from gpuserve.profile.spec import RoutingSpec


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
    """Everything a router worker decides by. `generation` grows with each write."""

    instance: str
    generation: int
    routing: RoutingSpec
    upstreams: tuple[Upstream, ...]
    max_body_bytes: int = 32 << 20
