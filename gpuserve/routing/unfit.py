"""Rules that lead to a model which can never take what they match."""

from collections.abc import Iterator, Sequence

from gpuserve.errors import Problem
from gpuserve.plan import Capabilities, Launch
from gpuserve.profile.spec import Profile, RouteSpec
from gpuserve.routing.table import stated_capabilities


def unfit_routes(profile: Profile, launches: Sequence[Launch]) -> tuple[Problem, ...]:
    """Return what is wrong with the rules of *profile* for the models that *launches* start.

    What is not known of a model is no problem. `where` is the TOML path of the condition.
    """
    return tuple(_unfit(profile, launches))


def _unfit(profile: Profile, launches: Sequence[Launch]) -> Iterator[Problem]:
    known = {name: one.capabilities for one in launches for name in (one.name, *one.aliases)}
    for spec in profile.upstreams:
        known.update(dict.fromkeys(spec.models, stated_capabilities(spec)))
    routing = profile.routing
    models = {"code": routing.code, "general": routing.general}
    for rule in routing.rules:
        model = models.setdefault(rule.name, rule.model)
        can = known.get(model or "")
        if model is not None and can is not None:
            yield from _never(f"route[{rule.index}]", rule, model, can)


def _never(where: str, rule: RouteSpec, model: str, can: Capabilities) -> Iterator[Problem]:
    if can.embeddings:
        yield _problem(f"{where}.model", model, "is an embedding model", "name one that generates")
        return
    if rule.images and can.images is False:
        hint = "name a model that sees, or leave out `images`"
        yield _problem(f"{where}.images", model, "does not take images", hint)
    if (rule.tools or rule.tool_names) and can.tools is False:
        hint = "give the model a tool_call_parser"
        yield _problem(f"{where}.tools", model, "has no tool call parser", hint)
    least, holds = rule.min_prompt_tokens, can.max_model_len
    if least is not None and holds is not None and least >= holds:
        hint = "name a model with a longer context, or lower min_prompt_tokens"
        yield _problem(f"{where}.min_prompt_tokens", model, f"holds {holds} tokens", hint)
    if rule.kind not in ("completion", "fim") and can.chat is False:
        yield Problem(
            where=where,
            message=f'"{model}" has no chat template: chats that this rule takes go elsewhere',
            hint='add kind = "completion", or give the model a chat_template',
            warning=True,
        )


def _problem(where: str, model: str, lacks: str, hint: str) -> Problem:
    message = f'"{model}" {lacks}: what this rule takes would always go elsewhere'
    return Problem(where=where, message=message, hint=hint)
