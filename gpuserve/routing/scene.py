"""A request as rules and the classifier see it; each view is made when it is first asked for."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from gpuserve.routing import spoken
from gpuserve.routing.classify import UNSURE, Verdict, classify
from gpuserve.routing.language import language_of
from gpuserve.routing.patterns import searchable
from gpuserve.routing.request import Need
from gpuserve.routing.turns import turns_of

Kind = Literal["chat", "completion", "fim"]


def verdict_on(need: Need, unsure: tuple[float, float]) -> Verdict:
    """Return what the classifier says of *need*; *unsure* as for `classify`."""
    turns = need.turns
    return classify(turns_of(need.body) if turns is None else turns, unsure=unsure)


class Scene:
    """The views of one request: pure, and made once each.

    *unsure* are the probabilities of code between which a verdict is unsure.
    """

    def __init__(self, need: Need, unsure: tuple[float, float] = UNSURE) -> None:
        self.need = need
        self._unsure = unsure

    @cached_property
    def verdict(self) -> Verdict:
        """What the classifier says."""
        return verdict_on(self.need, self._unsure)

    @cached_property
    def kind(self) -> Kind:
        """Chat, plain completion or fill-in-the-middle."""
        if self.need.fim:
            return "fim"
        body = self.need.body
        counted = self.need.task == "count" and "prompt" in body and "messages" not in body
        return "completion" if self.need.task == "text" or counted else "chat"

    @cached_property
    def said(self) -> list[str]:
        """The user's turns, the last first, cut to their windows."""
        return [searchable(text) for text in spoken.said(self.need.body)]

    @cached_property
    def lowered(self) -> list[str]:
        """The same in lower case, as `str.casefold` makes it."""
        return [text.casefold() for text in self.said]

    @cached_property
    def languages(self) -> list[str | None]:
        """The language of each turn, None where it cannot be told."""
        return [language_of(text) for text in self.said]

    @cached_property
    def system(self) -> str:
        """The system prompt, casefolded."""
        return searchable(spoken.system(self.need.body)).casefold()

    @cached_property
    def tools(self) -> list[str]:
        """The names of the tools on offer."""
        return spoken.tool_names(self.need.body)

    @cached_property
    def metadata(self) -> Mapping[str, Any]:
        """The request's `metadata`, empty where it has none."""
        found = self.need.body.get("metadata")
        return found if isinstance(found, dict) else {}
