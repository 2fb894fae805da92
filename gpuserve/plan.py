"""Everything that `up` will do, as plain data with no choices left.

A plan is made once, before anything is launched, written to the run directory as JSON, and
carried out by the controller; another executor could carry it out elsewhere.
"""

from dataclasses import dataclass

from gpuserve.memory.report import FitReport, Footprint
from gpuserve.profile.spec import Patience, Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What the router must know about a model before it sends a request there.

    None means "cannot be told": the router then lets the engine answer.
    """

    chat: bool | None = None  # has a chat template
    tools: bool | None = None
    images: bool | None = None
    embeddings: bool | None = None  # an embedding model: it does that and does not generate
    structured: bool | None = None  # answers that follow a JSON schema
    max_model_len: int | None = None
    max_num_seqs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How one engine is started.

    Exactly one of `socket` (an absolute path) and `port` is set. `env` is added to the
    keeper's environment. `gate` is what the gate serialises on: one key per GPU
    (`"gpu0"`), or `"cpu"`. `gate_needs` stands beside it: the bytes that must be free there
    before the start, of each card its own (GPUs may differ). `weights` is the hub id to fetch
    before the gate, or None when the weights are a directory that is here.
    """

    name: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    socket: str | None
    port: int | None
    gpus: tuple[int, ...]
    gate: tuple[str, ...]
    gate_needs: tuple[int, ...]
    budget_bytes: int
    context_bytes: int
    reserved_bytes: int
    predicted: Footprint | None
    weights: str | None
    revision: str | None
    patience: Patience
    aliases: tuple[str, ...]
    capabilities: Capabilities
    vllm_version: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A profile, the proof that it fits, and the launches that follow from both."""

    profile: Profile
    report: FitReport
    launches: tuple[Launch, ...]
