"""What is decided about a request: its route, and the upstream that answers."""

from dataclasses import dataclass
from typing import Literal

from gpuserve.routing.classify import Verdict
from gpuserve.routing.table import Upstream

Step = Literal["explicit", "header", "rule", "kind", "classifier", "default", "only"]
Cause = Literal["capability", "context", "not_ready", "unreachable", "full"]


# One of each is made for each request; frozen, they would take three times as long to make.
@dataclass(slots=True, kw_only=True)
class Decision:
    """Which route a request takes, before anybody looks who can serve it; nobody changes one."""

    step: Step
    route: str
    reason: str
    verdict: Verdict | None = None
    hits: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Choice:
    """The upstream that answers; nobody changes one.

    `step` is what decided. `route` is "explicit", "only", or a route of the profile: "code",
    "general", "default", or the name of a rule. `model` is the name to ask the upstream for;
    `rewrite` says that the body does not say so yet. `edits` are numbers to put into the body
    instead of those that it has: max_tokens, lowered. `fallback` says why the first choice could
    not serve, None when it does; `wanted` is that first choice's model and `cause` the reason in
    one word. `ask_tokenizer`: this rests on an estimate that is too near the edge of the
    upstream's context; who can, asks its tokenizer and chooses again, with
    `Need.counted_tokens`. `verdict` is the classifier's, where it was asked; `hits` are what
    made a rule hold.
    """

    upstream: Upstream
    route: str
    reason: str
    model: str
    step: Step = "explicit"
    rewrite: bool = False
    fallback: str | None = None
    wanted: str | None = None
    cause: Cause | None = None
    edits: tuple[tuple[str, int], ...] = ()
    ask_tokenizer: bool = False
    verdict: Verdict | None = None
    hits: tuple[str, ...] = ()
