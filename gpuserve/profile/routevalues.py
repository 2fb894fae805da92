"""The kinds of value that stand in `[routing]` and `[[route]]`, and what each allows."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic import WithJsonSchema as JsonSchema

from gpuserve.profile.spec import ABILITIES
from gpuserve.profile.values import Fault, Text
from gpuserve.profile.words import near
from gpuserve.routing.language import LANGUAGES
from gpuserve.routing.patterns import BadPattern, compiled

_LABEL_CHARS = 64


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _keyword(text: str) -> str:
    if text != text.strip():
        raise Fault(
            f'the keyword "{text}" begins or ends with a space',
            "leave it out: keywords are whole words",
        )
    return text


def _regex(text: str) -> str:
    try:
        pattern = compiled(text)
    except BadPattern as error:
        raise Fault(str(error), error.hint) from error
    if pattern.search("") is not None:
        raise Fault(f'"{text}" matches every text, the empty one too', "say what must stand there")
    return text


def _language(text: str) -> str:
    if text not in LANGUAGES:
        close = near(text, LANGUAGES)
        hint = f'did you mean "{close}"?' if close else f"known: {', '.join(sorted(LANGUAGES))}"
        raise Fault(f'"{text}" is no code of a language that can be told here', hint)
    return text


def _ability(text: str) -> str:
    if text not in ABILITIES:
        close = near(text, ABILITIES)
        hint = f'did you mean "{close}"?' if close else f"known: {', '.join(ABILITIES)}"
        raise Fault(f'"{text}" is nothing that a model can or cannot do here', hint)
    return text


def _tools(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value:
        return [value]
    if isinstance(value, list) and value and all(isinstance(v, str) and v for v in value):
        return value
    raise Fault(
        "expected true, false, or names of tools",
        'tools = true for any, tools = ["bash", "edit_*"] for one of these',
    )


def _threshold(value: Any) -> Any:
    given = value if isinstance(value, list) else [value]
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in given):
        raise Fault("expected a probability, or two", "threshold = 0.5, or [0.4, 0.7]")
    if not all(0 < v < 1 for v in given):
        raise Fault(
            f"expected more than 0 and less than 1, found {', '.join(map(str, given))}",
            "it is the probability of code above which a prompt counts as code",
        )
    if len(given) not in (1, 2) or (len(given) == 2 and given[0] > given[1]):
        raise Fault(
            "expected one probability, or two of which the first is the smaller",
            "below the first a prompt counts as general, above the second as code, and as unsure "
            "between them",
        )
    return [float(v) for v in given]


def _matched(table: dict[str, Any]) -> dict[str, list[str]]:
    if not table:
        raise Fault("expected at least one key", 'for example: { team = "data" }')
    found = {}
    for key, value in table.items():
        values = _listed(value)
        if not isinstance(values, list) or not values:
            raise Fault(f'expected a string, or several, for "{key}"')
        if not all(isinstance(v, str) and v for v in values):
            raise Fault(f'expected strings that are not empty for "{key}"')
        found[key] = values
    return found


def _headers(table: dict[str, list[str]]) -> dict[str, list[str]]:
    for name in table:
        if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
            raise Fault(f'"{name}" is not the name of a header', 'for example: { "user-agent" = …')
    return {name.lower(): values for name, values in table.items()}


def _several(item: dict[str, Any]) -> JsonSchema:
    many = {"type": "array", "items": item, "minItems": 1}
    return JsonSchema({"anyOf": [item, many]})


_WORD: dict[str, Any] = {"type": "string", "minLength": 1}
_PROBABILITY: dict[str, Any] = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
_TABLE_OF_WORDS = JsonSchema(
    {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {
            "anyOf": [_WORD, {"type": "array", "items": _WORD, "minItems": 1}]
        },
    }
)
_Few = Field(min_length=1, max_length=1000)

Label = Annotated[
    str,
    Field(min_length=1, max_length=_LABEL_CHARS, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"),
]
Keywords = Annotated[
    list[Annotated[Text, AfterValidator(_keyword)]],
    _Few,
    BeforeValidator(_listed),
    _several(_WORD),
]
Phrases = Annotated[list[Text], _Few, BeforeValidator(_listed), _several(_WORD)]
Patterns = Annotated[
    list[Annotated[Text, AfterValidator(_regex)]], _Few, BeforeValidator(_listed), _several(_WORD)
]
Languages = Annotated[
    list[Annotated[str, AfterValidator(_language)]],
    _Few,
    BeforeValidator(_listed),
    _several({"enum": sorted(LANGUAGES)}),
]
Abilities = Annotated[
    list[Annotated[str, AfterValidator(_ability)]],
    JsonSchema({"type": "array", "items": {"enum": list(ABILITIES)}}),
]
Tools = Annotated[
    Any,
    BeforeValidator(_tools),
    JsonSchema(
        {"anyOf": [{"type": "boolean"}, _WORD, {"type": "array", "items": _WORD, "minItems": 1}]}
    ),
]
Threshold = Annotated[
    Any,
    BeforeValidator(_threshold),
    JsonSchema(
        {
            "anyOf": [
                _PROBABILITY,
                {"type": "array", "items": _PROBABILITY, "minItems": 1, "maxItems": 2},
            ]
        }
    ),
]
Matched = Annotated[dict[str, Any], AfterValidator(_matched), _TABLE_OF_WORDS]
Headers = Annotated[
    dict[str, Any], AfterValidator(_matched), AfterValidator(_headers), _TABLE_OF_WORDS
]
