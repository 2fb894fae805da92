"""The profile's `[[route]]` rules, made ready once per table and tried in order.

A rule holds when every condition that it states does. Each condition answers with what it
found, for people, or None. The cheap ones come first, so that most rules cost next to nothing.
"""

import fnmatch
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gpuserve.profile.spec import RouteSpec
from gpuserve.routing.patterns import Pattern, compiled
from gpuserve.routing.scene import Scene

# Of a header's or a metadata value; longer ones match by their beginning.
_VALUE_CHARS = 1000
_TOLD_CHARS = 40
# Of one keyword within longer words, in one turn.
_MOST_LOOKS = 256

Condition = Callable[[Scene], str | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: where it leads, and what must hold."""

    route: str
    conditions: tuple[Condition, ...]

    def hits(self, scene: Scene) -> tuple[str, ...] | None:
        """Return what each condition found, None where one does not hold."""
        found = []
        for condition in self.conditions:
            hit = condition(scene)
            if hit is None:
                return None
            found.append(hit)
        return tuple(found)


def rules_of(specs: Sequence[RouteSpec]) -> tuple[Rule, ...]:
    """Return the rules of *specs*, in their order.

    Raises BadPattern for a regex that no check has seen.
    """
    return tuple(Rule(spec.name, tuple(_conditions(spec))) for spec in specs)


def _conditions(spec: RouteSpec) -> Iterator[Condition]:
    if spec.kind is not None:
        yield _kind(spec.kind)
    if spec.images is not None:
        yield _images(spec.images)
    if spec.tools is not None:
        yield _tools(spec.tools)
    if spec.min_prompt_tokens is not None or spec.max_prompt_tokens is not None:
        yield _length(spec.min_prompt_tokens, spec.max_prompt_tokens)
    for name, values in spec.header:
        yield _header(name, values)
    for key, values in spec.metadata:
        yield _metadata(key, values)
    if spec.tool_names:
        yield _tool_names(spec.tool_names)
    if spec.system:
        yield _system(spec.system)
    deep = spec.scope == "conversation"
    if spec.language:
        yield _language(spec.language, deep=deep)
    if spec.keywords:
        yield _keywords(spec.keywords, deep=deep)
    if spec.regex:
        yield _regex(spec.regex, deep=deep)
    if spec.label is not None:
        yield _label(spec.label)


def _kind(kind: str) -> Condition:
    return lambda scene: f"kind {kind}" if scene.kind == kind else None


def _images(wanted: bool) -> Condition:  # noqa: FBT001 - the profile's value
    told = "images" if wanted else "no images"
    return lambda scene: told if scene.need.images == wanted else None


def _tools(wanted: bool) -> Condition:  # noqa: FBT001 - the profile's value
    told = "tools" if wanted else "no tools"
    return lambda scene: told if scene.need.tools == wanted else None


def _length(least: int | None, most: int | None) -> Condition:
    def condition(scene: Scene) -> str | None:
        tokens = scene.need.prompt_tokens
        if not tokens:  # of images, of a request that is only counted: cannot be told
            return None
        if (least is not None and tokens < least) or (most is not None and tokens > most):
            return None
        return f"about {tokens} tokens"

    return condition


def _header(name: str, values: Sequence[str]) -> Condition:
    pattern = _globs(values, re.IGNORECASE)

    def condition(scene: Scene) -> str | None:
        value = scene.need.headers.get(name)
        if value is None or not pattern.match(value[:_VALUE_CHARS]):
            return None
        return f"header {name}"

    return condition


def _metadata(key: str, values: Sequence[str]) -> Condition:
    pattern = _globs(values)

    def condition(scene: Scene) -> str | None:
        value = scene.metadata.get(key)
        if isinstance(value, bool):
            value = str(value).lower()
        elif isinstance(value, int | float):
            value = repr(value)[:_VALUE_CHARS] if abs(value) < 1e300 else ""
        if not isinstance(value, str) or not pattern.match(value[:_VALUE_CHARS]):
            return None
        return f"metadata {key}"

    return condition


def _tool_names(names: Sequence[str]) -> Condition:
    pattern = _globs(names)

    def condition(scene: Scene) -> str | None:
        if not scene.need.tools:
            return None
        found = next((name for name in scene.tools if pattern.match(name)), None)
        return None if found is None else f"tool {found[:_TOLD_CHARS]}"

    return condition


def _system(phrases: Sequence[str]) -> Condition:
    folded = [(phrase.casefold(), phrase) for phrase in phrases]

    def condition(scene: Scene) -> str | None:
        text = scene.system
        found = next((told for phrase, told in folded if phrase in text), None) if text else None
        return None if found is None else f"system prompt {_quoted(found)}"

    return condition


def _language(codes: Sequence[str], *, deep: bool) -> Condition:
    wanted = frozenset(codes)

    def condition(scene: Scene) -> str | None:
        # A short or bare follow-up has the language of what came before.
        for language in scene.languages if deep else scene.languages[:1]:
            if language is not None:
                return f"language {language}" if language in wanted else None
        return None

    return condition


def _keywords(words: Sequence[str], *, deep: bool) -> Condition:
    folded = [(word.casefold(), word) for word in words]

    def condition(scene: Scene) -> str | None:
        for turn, text in enumerate(scene.lowered if deep else scene.lowered[:1]):
            for word, told in folded:
                if _stands(word, text):
                    return f"keyword {_quoted(told)}{_earlier(turn)}"
        return None

    return condition


def _regex(texts: Sequence[str], *, deep: bool) -> Condition:
    patterns: list[tuple[Pattern, str]] = [(compiled(text), text) for text in texts]

    def condition(scene: Scene) -> str | None:
        for turn, text in enumerate(scene.said if deep else scene.said[:1]):
            for pattern, told in patterns:
                if pattern.search(text) is not None:
                    return f"regex {_quoted(told)}{_earlier(turn)}"
        return None

    return condition


def _label(label: str) -> Condition:
    def condition(scene: Scene) -> str | None:
        verdict = scene.verdict
        if verdict.route != label:
            return None
        return f"label {label} (p(code)={verdict.score:.2f})"

    return condition


def _stands(word: str, text: str) -> bool:
    """Whether *word* stands in *text* as a word of its own.

    Scripts without spaces between words have no such thing: there it need only occur.
    """
    at = text.find(word)
    for _ in range(_MOST_LOOKS):
        if at == -1:
            return False
        end = at + len(word)
        before = at > 0 and _joined(text[at - 1], word[0])
        after = end < len(text) and _joined(word[-1], text[end])
        if not before and not after:
            return True
        at = text.find(word, end)
    return False  # a text made of it, and none that somebody wrote


def _joined(left: str, right: str) -> bool:
    return _in_word(left) and _in_word(right)


def _in_word(char: str) -> bool:
    return (char.isalnum() or char == "_") and not "\u2e80" <= char <= "\ud7ff"


def _globs(values: Sequence[str], flags: int = 0) -> re.Pattern[str]:
    """Return the pattern for any of *values*, in which `*` stands for anything."""
    # fnmatch makes what cannot backtrack of it; its other signs are letters here.
    plain = [re.sub(r"([?\[])", r"[\1]", value) for value in values]
    return re.compile("|".join(fnmatch.translate(value) for value in plain), flags)


def _earlier(turn: int) -> str:
    return "" if turn == 0 else " in an earlier turn"


def _quoted(text: str) -> str:
    return f'"{text if len(text) <= _TOLD_CHARS else text[: _TOLD_CHARS - 1] + "…"}"'
