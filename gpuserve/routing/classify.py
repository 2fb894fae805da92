"""Would a code model answer this better than a general one? A trained table, explained, bounded.

The last user turn is scored. Where it is short or says little ("what if there are several?"),
what came before counts as well: a conversation keeps its model until a turn is plainly of the
other kind. The system prompt and the tools on offer are looked at for a coding agent's signature
only, because joined to the text they drown the question.
"""

import math
from dataclasses import dataclass
from typing import Literal

from gpuserve.routing.agents import scene_terms, turn_terms
from gpuserve.routing.model import Model, Weighed, shipped
from gpuserve.routing.tokens import Seen, seen_in, words_of
from gpuserve.routing.turns import Turns

# Below and above: unsure, so the profile's default answers.
UNSURE = (0.44, 0.56)

# Bytes, because a Chinese sentence has a third of the characters of an English one.
_SHORT_BYTES = 30
# Log-odds of a turn between which it may be about what came before: follow-ups in full sentences
# lean to general, because most of what has no word of programming is.
_SAYS_LITTLE = (-2.3, 1.0)
_CONTEXT_CAP = 3.0
_REPLY_WEIGHT = 0.5
_MOST = 12.0  # log-odds beyond which a probability means nothing any more
_SHOWN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer: `score` is the probability of code, 0 to 1.

    `reasons` are the words and marks that weighed most, in log-odds, such as `"python +2.8"`,
    the heaviest first.
    """

    route: Literal["code", "general", "unsure"]
    score: float
    reasons: tuple[str, ...]


def classify(
    turns: Turns, *, unsure: tuple[float, float] = UNSURE, model: Model | None = None
) -> Verdict:
    """Return the verdict on *turns*; the time does not grow with their length.

    A score from the first to the second bound of *unsure* is a verdict of its own. *model* is the
    table to go by; None: the one that comes with gpuserve.
    """
    model = model or shipped()
    seen = seen_in(turns.last)
    own = model.weigh(seen)
    total = model.prior + own.total
    terms = own.terms
    if turns.earlier and _says_little(turns.last, total):
        context = _context(turns, model)
        counted = max(-_CONTEXT_CAP, min(_CONTEXT_CAP, context.total))
        share = counted / context.total if context.total else 0.0
        total += counted
        terms |= {f"earlier: {name}": w * share for name, w in context.terms.items()}
    agent = scene_terms(turns.system, turns.tools)
    if agent:
        total += sum(agent.values())
        terms |= {f"system: {name}": weight for name, weight in agent.items()}
    agent = _agents_turn(seen, turns.earlier)
    if agent:
        total += sum(agent.values())
        terms |= agent
    score = 1 / (1 + math.exp(-max(-_MOST, min(_MOST, total))))
    return Verdict(route=_route(score, unsure), score=score, reasons=_reasons(terms))


def _agents_turn(seen: Seen, earlier: tuple[str, ...]) -> dict[str, float]:
    """Return what a coding agent's own turns show, the last or those before it."""
    terms = turn_terms(seen.lowered, seen.words)
    for text in earlier:
        lowered = text.lower()
        terms |= turn_terms(lowered, words_of(lowered))
    return terms


def _says_little(last: str, own: float) -> bool:
    """Whether a turn of *own* log-odds may be about what came before it."""
    # As many characters are at least as many bytes: no more of a long turn need be looked at.
    short = len(last[:_SHORT_BYTES].encode("utf-8", "replace")) < _SHORT_BYTES
    return short or _SAYS_LITTLE[0] < own < _SAYS_LITTLE[1]


def _context(turns: Turns, model: Model) -> Weighed:
    """Return what was said before the last turn, by both sides, as one sum."""
    asked = model.weigh(seen_in("\n".join(turns.earlier)))
    total, terms = model.prior + asked.total, asked.terms
    if turns.reply:
        reply = model.weigh(seen_in(turns.reply))
        total += (model.prior + reply.total) * _REPLY_WEIGHT
        terms = terms | {n: w * _REPLY_WEIGHT for n, w in reply.terms.items() if n not in terms}
    return Weighed(total, terms)


def _route(score: float, unsure: tuple[float, float]) -> Literal["code", "general", "unsure"]:
    if score < unsure[0]:
        return "general"
    return "code" if score > unsure[1] else "unsure"


def _reasons(terms: dict[str, float]) -> tuple[str, ...]:
    heaviest = sorted(((abs(weight), name) for name, weight in terms.items()), reverse=True)
    shown = [f"{name} {terms[name]:+.1f}" for size, name in heaviest[:_SHOWN] if size >= 0.05]
    return tuple(shown) or ("no sign of code",)
