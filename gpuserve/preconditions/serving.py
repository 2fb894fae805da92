"""Profiles that start and then serve badly: windows that agents do not fit, tools nobody calls."""

from collections.abc import Iterator, Mapping

from gpuserve.errors import Problem
from gpuserve.profile.spec import ModelSpec, Profile

# A coding agent opens with its system prompt and the schemas of its tools: 24,071 tokens, refused
# at 8,192 and served at 32,768, in https://github.com/janhq/jan/issues/8108.
AGENT_TOKENS = 24_576


def serving_problems(profile: Profile, lengths: Mapping[str, int | None]) -> tuple[Problem, ...]:
    """Return warnings about how *profile* serves; `lengths` is each model's context, by name."""
    return (*_window(profile, lengths), *_tools(profile))


def _window(profile: Profile, lengths: Mapping[str, int | None]) -> Iterator[Problem]:
    coder = profile.model(profile.routing.code or "")
    length = lengths.get(coder.name) if coder is not None else None
    if coder is None or length is None or length >= AGENT_TOKENS:
        return
    demand = coder.demand
    from_demand = demand is not None and coder.max_model_len in {None, demand.context_tokens}
    stated = "demand.context_tokens" if from_demand else None
    yield Problem(
        where=f"model[{coder.index}].{stated or 'max_model_len'}",
        message=f"{length} tokens are enough for questions about code, but not for coding "
        f"agents, whose first prompt takes about {AGENT_TOKENS}",
        hint="32768 or more, where the model and the memory allow it",
        warning=True,
    )


def _tools(profile: Profile) -> Iterator[Problem]:
    routed = [
        spec
        for key in ("code", "general", "default")
        if (spec := profile.model(getattr(profile.routing, key) or "")) is not None
    ]
    if not routed or any(_calls_tools(spec) for spec in profile.models):
        return
    if profile.upstreams:
        return  # a server elsewhere may
    yield Problem(
        where=f"model[{routed[0].index}].tool_call_parser",
        message="no model of this profile can call tools: requests with tools, such as those of "
        "coding agents, will be refused",
        hint="name the parser of the model's family, for example hermes or mistral, and "
        "enable_auto_tool_choice = true",
        warning=True,
    )


def _calls_tools(spec: ModelSpec) -> bool:
    return spec.tool_call_parser is not None
