"""What a model can do of what a request needs: its kind, its context, whether it is there now."""

from collections.abc import Set as AbstractSet
from typing import Literal

from gpuserve.routing.request import Need
from gpuserve.routing.table import Target, Upstream

# Prose and code of today's vocabularies take a token for 3 to 5 bytes, in Latin script and in
# others; figures, base64 and scripts that a vocabulary hardly knows up to one for 2. In between an
# engine must count.
_FEWEST_BYTES_PER_TOKEN = 2
_FEW_BYTES_PER_TOKEN = 3
_MANY_BYTES_PER_TOKEN = 5
# Assumed, not measured: where half of one vocabulary's count is too much, no other helps.
_BETTER_VOCABULARY = 0.5
# With max_tokens lowered to what is left, an answer still needs some room.
_LEAST_ANSWER_TOKENS = 256

# Whether a prompt and its answer have room: surely, perhaps, hardly, and certainly not.
Room = Literal["yes", "near", "hardly", "no"]


def why_not(target: Target, need: Need) -> str | None:
    """Return why *target* cannot do what *need* asks, None when it can or nobody knows."""
    can = target.upstream.capabilities
    if need.task == "pool":
        return "generates text, it does not embed" if can.embeddings is False else None
    if need.task in ("chat", "text") and can.embeddings:
        return "is an embedding model"
    if need.task == "chat" and can.chat is False:
        return "has no chat template"
    if need.tools and can.tools is False:
        return "was started without a tool call parser"
    if need.images and can.images is False:
        return "does not take images"
    if need.structured and can.structured is False:
        return "does not follow a JSON schema"
    return None


def surely_can(target: Target, need: Need) -> bool:
    """Whether it is known, not only not denied, that *target* does what *need* asks."""
    can = target.upstream.capabilities
    asked = (
        (need.task == "chat", can.chat),
        (need.tools, can.tools),
        (need.images, can.images),
        (need.structured, can.structured),
    )
    generates = can.embeddings is False or can.chat is True
    return generates and all(able is True for needed, able in asked if needed)


def room(target: Target, need: Need, *, clamped: bool) -> Room:
    """Return whether *need*'s prompt and answer have room in *target*'s context.

    *clamped*: the answer takes what is left. Images, and what has no prompt, have room.
    """
    limit = target.upstream.capabilities.max_model_len
    if limit is None or not need.size_bytes:
        return "yes"
    wanted = min(need.wanted_tokens, _LEAST_ANSWER_TOKENS) if clamped else need.wanted_tokens
    counted = need.counted_tokens
    if counted is not None and counted >= 0:
        if counted + wanted <= limit:
            return "yes"
        # Another vocabulary may do with less: that engine has its own word.
        own = need.counted_by in (None, target.upstream.name)
        return "no" if own or counted * _BETTER_VOCABULARY + wanted > limit else "hardly"
    # vLLM refuses an answer longer than its context whatever the prompt (renderers/params.py,
    # 0.32); other servers may give what there is.
    if need.least_tokens > limit or (wanted > limit and target.upstream.managed):
        return "no"
    if need.size_bytes // _FEWEST_BYTES_PER_TOKEN + wanted <= limit:
        return "yes"
    return "near" if need.size_bytes // _MANY_BYTES_PER_TOKEN + wanted <= limit else "hardly"


def not_ready(upstream: Upstream, dark: AbstractSet[str]) -> str | None:
    """Return why *upstream* answers nobody now, None when it does."""
    if upstream.routable and upstream.name not in dark:
        return None
    if upstream.routable:
        return "refuses connections"
    return f"{upstream.state}, {upstream.reason}" if upstream.reason else upstream.state


def told_room(target: Target, need: Need) -> str:
    """Return what *target* holds beside what *need* takes, for people."""
    return (
        f"holds {target.upstream.capabilities.max_model_len} tokens, the request has {_size(need)}"
    )


def left_tokens(target: Target, need: Need) -> tuple[int, bool] | None:
    """Return how many tokens an answer may have in *target*, and whether that is sure.

    None where nothing needs to be lowered: the context is not known, or the request asks for
    less than is left by any measure.
    """
    limit = target.upstream.capabilities.max_model_len
    wanted = need.wanted_tokens
    if limit is None or not wanted:
        return None
    counted = need.counted_tokens
    if counted is not None and counted >= 0:
        left = limit - counted
        return (left, True) if 0 < left < wanted else None
    if not need.size_bytes:  # images: half is as good a guess as any
        return (limit // 2, True) if wanted > limit // 2 else None
    left = limit - need.size_bytes // _FEWEST_BYTES_PER_TOKEN
    if wanted <= left:
        return None
    if left >= limit // 4:  # enough for an answer: to count exactly would gain little
        return left, True
    usual = limit - need.size_bytes // _FEW_BYTES_PER_TOKEN
    return (usual, False) if 0 < usual < wanted else None


def _size(need: Need) -> str:
    counted = need.counted_tokens
    if counted is not None and counted >= 0:
        return str(counted + need.wanted_tokens)
    if need.tokens and need.least_tokens > need.tokens:
        return f"at least {need.least_tokens}"
    return f"about {need.prompt_tokens + need.wanted_tokens}"
