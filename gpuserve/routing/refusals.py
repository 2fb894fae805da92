"""Every answer that is a no: who could not, why, and when to try again."""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from gpuserve.routing.fitness import not_ready, told_room, why_not
from gpuserve.routing.request import Need
from gpuserve.routing.table import Target, Upstream

# For clients, where the controller has no better word.
RETRY_AFTER_S = 5.0
# An upstream that refused a connection is asked again after a second.
_DARK_RETRY_S = 1.0
_TOLD_CHARS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why nobody answers, as an HTTP status, a stable code and a sentence for people.

    `model`, `route` and `reason` are those of the choice that came to nothing, where there was
    one: the model named, or the first of the route.
    """

    status: int
    code: str
    message: str
    retry_after_s: float | None = None
    param: str | None = None
    model: str | None = None
    route: str | None = None
    reason: str | None = None


def unknown_model(name: str, known: Iterable[str]) -> Refusal:
    """The request's `model` is nobody's name."""
    return Refusal(
        status=404,
        code="model_not_found",
        param="model",
        message=f"the model {name[:_TOLD_CHARS]!r} does not exist here; "
        f"known models: {_listed(known)}",
    )


def bad_header(header: str, value: str, what: str, known: Iterable[str]) -> Refusal:
    """A header that asks for a route or a model asks for one that does not exist."""
    return Refusal(
        status=400,
        code=f"unknown_{what}",
        param=header,
        message=f"the header {header} asks for the {what} {value[:_TOLD_CHARS]!r}, which does not "
        f"exist here; known {what}s: {_listed(known)}",
    )


def nobody(need: Need, targets: Sequence[Target]) -> Refusal:
    """No model can do what is asked."""
    whys = [(t.model, why_not(t, need) or told_room(t, need)) for t in targets]
    told = "; ".join(f"{model} {why}" for model, why in whys) or "there are no models"
    return Refusal(
        status=400, code="no_capable_model", message=f"no model can answer this request: {told}"
    )


def too_long(need: Need, targets: Sequence[Target]) -> Refusal:
    """No model holds the prompt and its answer."""
    wanted = f" and {need.wanted_tokens} more to be generated" if need.wanted_tokens else ""
    counted = need.counted_tokens is not None and need.counted_tokens >= 0
    size = f"{'' if counted else 'about '}{need.prompt_tokens} tokens{wanted}"
    held = ", ".join(f"{t.model} holds {t.upstream.capabilities.max_model_len}" for t in targets)
    greedy = need.wanted_tokens > need.prompt_tokens
    hint = "; ask for fewer, or let [routing] clamp_max_tokens lower it" if greedy else ""
    return Refusal(
        status=400,
        code="context_length_exceeded",
        param="max_tokens" if greedy else "messages",
        message=f"no model holds this request of {size}: {held}{hint}",
    )


def several(targets: Sequence[Target]) -> Refusal:
    """The request names no model, and more than one could be meant."""
    return Refusal(
        status=400,
        code="model_required",
        param="model",
        message='the request names no model and several could answer it; set "model" to one '
        f"of: {_listed(t.model for t in targets)}",
    )


def not_now(targets: Sequence[Target], dark: AbstractSet[str]) -> Refusal:
    """Whoever could answer is not ready; says when one may be."""
    waits = [wait for t in targets if (wait := _wait_s(t.upstream, dark)) is not None]
    whys = "; ".join(f"{t.model} is not ready: {not_ready(t.upstream, dark)}" for t in targets)
    return Refusal(
        status=503, code="model_not_ready", message=whys, retry_after_s=min(waits, default=None)
    )


def _wait_s(upstream: Upstream, dark: AbstractSet[str]) -> float | None:
    """Return when to try again; None for what has failed for good.

    What an operator stopped, an operator starts again; the client's guess is as good as ours.
    """
    if upstream.routable:
        return _DARK_RETRY_S if upstream.name in dark else None
    if upstream.state == "Failed":
        return None
    return upstream.retry_after_s or RETRY_AFTER_S


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
