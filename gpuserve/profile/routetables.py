"""The shape of `[routing]` and `[[route]]`: which model answers what names none."""

from typing import Annotated, Literal

from pydantic import Field

from gpuserve.profile.routevalues import (
    Headers,
    Keywords,
    Label,
    Languages,
    Matched,
    Patterns,
    Phrases,
    Threshold,
    Tools,
)
from gpuserve.profile.table import Table
from gpuserve.profile.values import Count, PublicName


class RoutingTable(Table):
    """Which model answers requests that name none."""

    auto: PublicName = Field("auto", description='The value of "model" that asks for routing.')
    code: PublicName | None = Field(None, description="Model for prompts about code.")
    general: PublicName | None = Field(None, description="Model for every other prompt.")
    default: PublicName | None = Field(
        None, description="Model for prompts that cannot be told; without it, `general`."
    )
    threshold: Threshold | None = Field(
        None,
        description="Probability of code above which a prompt counts as code. One number moves the "
        "classifier's own band of unsure ones along; of two, a prompt is general below the first, "
        "code above the second, and unsure between them. Default: the classifier's own.",
        examples=[0.6, [0.4, 0.7]],
    )
    fallback: list[PublicName] | None = Field(
        None,
        description="Models that stand in, in this order, for a first choice that is not ready, "
        "cannot do what is asked, or is full. Default: default, general and code; [] for none.",
    )
    spill_over: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None,
        description="A first choice that has this many times its max_num_seqs in flight is full, "
        "and the next of its fallbacks that is not answers. Default: requests wait for their "
        "model.",
    )
    clamp_max_tokens: bool = Field(
        default=False,
        description="Lower max_tokens to what the model's context leaves beside the prompt, "
        "instead of letting the engine refuse.",
    )


class RouteTable(Table):
    """A rule: where every condition in it holds, its model answers."""

    name: Label | None = Field(
        None,
        description="What x-gpuserve-route says. Default: the model's name. `code` and `general` "
        "are those of [routing], and take no model here.",
    )
    model: PublicName | None = Field(
        None, description="The model that answers; left out where `name` is a route already."
    )
    fallback: list[PublicName] | None = Field(
        None, description="As in [routing], for this route alone."
    )
    keywords: Keywords | None = Field(
        None, description="One of these words stands in what the user said, in any case."
    )
    regex: Patterns | None = Field(
        None,
        description="One of these patterns (RE2 syntax) matches what the user said; (?i) at the "
        "beginning for any case.",
        examples=[r"\bCVE-\d{4}-\d+"],
    )
    scope: Literal["turn", "conversation"] = Field(
        "conversation",
        description="Where keywords, regex and language look: at the user's last turn alone, or "
        "at earlier ones too, so that follow-up questions stay with the model.",
    )
    language: Languages | None = Field(
        None, description="The user writes in one of these languages, ISO 639-1 codes."
    )
    system: Phrases | None = Field(
        None, description="One of these texts stands in the system prompt, in any case."
    )
    tools: Tools | None = Field(
        None,
        description="true: tools are offered; false: none are; names, of which * stands for "
        "anything: one of these is offered.",
    )
    images: bool | None = Field(None, description="Whether the request holds images.")
    min_prompt_tokens: Count | None = Field(
        None, description="The prompt has at least about this many tokens, 4 bytes each."
    )
    max_prompt_tokens: Count | None = Field(
        None, description="The prompt has at most about this many tokens, 4 bytes each."
    )
    kind: Literal["chat", "completion", "fim"] | None = Field(
        None, description="Chat, plain completion, or fill-in-the-middle."
    )
    label: Literal["code", "general", "unsure"] | None = Field(
        None, description="What the classifier says."
    )
    metadata: Matched | None = Field(
        None,
        description="Each key of the request's `metadata` has this value, or one of these; * "
        "stands for anything.",
    )
    header: Headers | None = Field(
        None,
        description="Each of these headers of the request has this value, or one of these; * "
        "stands for anything.",
        examples=[{"user-agent": "claude-cli/*"}],
    )
