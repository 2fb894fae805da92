"""Would a code model answer this better than a general one? A trained table, explained, bounded.

The last user turn is scored. Where it is short or says little ("what if there are several?"),
what came before counts as well: a conversation keeps its model until a turn is plainly of the
other kind. The system prompt and the tools on offer are looked at for a coding agent's signature
only, because joined to the text they drown the question.
"""

import math
from dataclasses import dataclass
from typing import Literal

from gpuserve.routing import compiled
from gpuserve.routing.agents import coding_tool, scene_terms, turn_terms
from gpuserve.routing.mix import CONTEXT_CAP, LEAST_SHOWN, REPLY_WEIGHT, SAYS_LITTLE, SHOWN
from gpuserve.routing.model import Model, shipped
from gpuserve.routing.tokens import readable, see, window
from gpuserve.routing.turns import Turns

# Below and above: unsure, so the profile's default answers.
UNSURE = (0.44, 0.56)

# Bytes, because a Chinese sentence has a third of the characters of an English one.
_SHORT_BYTES = 30
_MOST = 12.0  # log-odds beyond which a probability means nothing any more


_NO_REASON = ("no sign of code",)


@dataclass(slots=True, kw_only=True)  # frozen, it would take three times as long to make
class Verdict:
    """The answer, which nobody changes: `score` is the probability of code, 0 to 1.

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
    table to go by; None: the one that comes with gpuserve, compiled where that can be.
    """
    found = scanned(turns) if model is None else None
    total, reasons = weighed(turns, model or shipped()) if found is None else found
    score = 1 / (1 + math.exp(-max(-_MOST, min(_MOST, total))))
    return Verdict(route=_route(score, unsure), score=score, reasons=reasons or _NO_REASON)


def scanned(turns: Turns) -> tuple[float, tuple[str, ...]] | None:
    """Return what `weighed` does by the shipped model; None where compiled code cannot."""
    scan = compiled.shipped_scan()
    if scan is None:
        return None
    earlier, reply, system, tools = turns.earlier, turns.reply, turns.system, turns.tools
    return scan.verdict(
        readable(turns.last),
        bool(earlier) and _is_short(turns.last),
        readable("\n".join(earlier)) if earlier else None,
        readable(reply) if reply and earlier else None,
        earlier,
        window(system) if system else None,
        coding_tool(tools) if tools else None,
    )


def weighed(turns: Turns, model: Model) -> tuple[float, tuple[str, ...]]:
    """Return the log-odds of code and what weighed most in them, by *model*."""
    seen = see(readable(turns.last))
    own = model.weigh(seen)
    total, terms = own.total + model.prior, own.terms
    if turns.earlier and (_is_short(turns.last) or SAYS_LITTLE[0] < total < SAYS_LITTLE[1]):
        context, said = _context(turns, model)
        counted = max(-CONTEXT_CAP, min(CONTEXT_CAP, context))
        share = counted / context if context else 0.0
        total += counted
        terms |= {f"earlier: {name}": w * share for name, w in said.items()}
    agent, signs = scene_terms(turns.system, turns.tools)
    total += agent
    terms |= {f"system: {name}": weight for name, weight in signs.items()}
    agent, signs = turn_terms(seen.lowered, seen.words, turns.earlier)
    total += agent
    terms |= signs
    return total, _reasons(terms)


def _is_short(last: str) -> bool:
    # As many characters are at least as many bytes: no more of a long turn need be looked at.
    return len(last[:_SHORT_BYTES].encode("utf-8", "replace")) < _SHORT_BYTES


def _context(turns: Turns, model: Model) -> tuple[float, dict[str, float]]:
    """Return what was said before the last turn, by both sides, as one sum, and its terms."""
    asked = model.weigh(see(readable("\n".join(turns.earlier))))
    total, terms = model.prior + asked.total, asked.terms
    if turns.reply:
        reply = model.weigh(see(readable(turns.reply)))
        total += (model.prior + reply.total) * REPLY_WEIGHT
        terms |= {n: w * REPLY_WEIGHT for n, w in reply.terms.items() if n not in terms}
    return total, terms


def _route(score: float, unsure: tuple[float, float]) -> Literal["code", "general", "unsure"]:
    if score < unsure[0]:
        return "general"
    return "code" if score > unsure[1] else "unsure"


def _reasons(terms: dict[str, float]) -> tuple[str, ...]:
    heaviest = sorted(((abs(weight), name) for name, weight in terms.items()), reverse=True)
    return tuple(
        f"{name} {terms[name]:+.1f}" for size, name in heaviest[:SHOWN] if size >= LEAST_SHOWN
    )
