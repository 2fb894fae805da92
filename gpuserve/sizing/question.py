"""What somebody wants to serve: models, each with a context and how many requests at once."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gpuserve.memory.engine import ModelFacts
from gpuserve.profile.spec import Demand, ModelSpec, Profile, RoutingSpec, ServerSpec

_UNUSUAL = re.compile(r"[^a-z0-9._-]+")
_LONGEST_NAME_CHARS = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One model: its hub id or directory, tokens of a request, requests at once."""

    model: str
    context_tokens: int
    concurrency: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a model, and of a 4-bit checkpoint of it (None: nobody is known)."""

    facts: ModelFacts
    packed: tuple[str, ModelFacts] | None = None


def profile_of(asks: Sequence[Ask]) -> Profile:
    """Return the plain profile of *asks*: nothing but the models and their demands."""
    names = names_of([ask.model for ask in asks])
    models = tuple(
        ModelSpec(
            index=index,
            name=name,
            model=ask.model,
            demand=Demand(context_tokens=ask.context_tokens, concurrency=ask.concurrency),
            max_model_len=ask.context_tokens,
            max_num_seqs=ask.concurrency,
        )
        for index, (name, ask) in enumerate(zip(names, asks, strict=True))
    )
    plain = Profile(path="/plan.toml", server=ServerSpec(), device="auto", models=models)
    return replace(plain, routing=_routing(names))


def names_of(models: Sequence[str]) -> list[str]:
    """Return a short public name for each of *models*, no two alike."""
    names: list[str] = []
    for model in models:
        base = _UNUSUAL.sub("-", model.rstrip("/").rpartition("/")[2].lower()).strip("-._")
        base = base[:_LONGEST_NAME_CHARS] or "model"
        name, number = base, 2
        while name in names or name == RoutingSpec().auto:
            name, number = f"{base}-{number}", number + 1
        names.append(name)
    return names


def _routing(names: Sequence[str]) -> RoutingSpec:
    """Code goes to the model that is named after it, where there is one and another beside it."""
    coders = [name for name in names if "code" in name]
    others = [name for name in names if "code" not in name]
    if not coders or not others:
        return RoutingSpec()
    return RoutingSpec(code=coders[0], general=others[0], default=others[0])
