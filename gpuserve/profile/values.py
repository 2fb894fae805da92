"""The kinds of value that stand in a profile: a name, a size, a URL, … and what each allows."""

import re
from difflib import get_close_matches
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic import WithJsonSchema as JsonSchema

from gpuserve import units
from gpuserve.lifecycle.audit import NOTIFIABLE
from gpuserve.rundir import LONGEST_NAME_CHARS

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# What clients put in "model" is often a hub id; it stands in HTTP headers and log lines.
_PUBLIC_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*")
_LONGEST_PUBLIC_NAME_CHARS = 256
# A page of the hub, as copied from a browser; what follows the id is a view of it.
_HUB_PAGE = re.compile(
    r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+)", re.IGNORECASE
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# https://datatracker.ietf.org/doc/html/rfc6454#section-6.2
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9.:\[\]-]+")
# https://datatracker.ietf.org/doc/html/rfc9110#name-tokens
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


class Fault(ValueError):
    """A value that its type allows and its meaning does not, with the way out."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def _name(text: str) -> str:
    if len(text) > LONGEST_NAME_CHARS:
        raise Fault(f"a name has at most {LONGEST_NAME_CHARS} characters, found {len(text)}")
    if not _NAME.fullmatch(text):
        raise Fault(
            f'expected letters, digits, ".", "_" and "-", the first a letter or digit, '
            f'found "{text}"',
            "the name becomes a file name and a process name; "
            'a hub id such as "org/model" can be one of the aliases',
        )
    return text


def _public_name(text: str) -> str:
    if len(text) > _LONGEST_PUBLIC_NAME_CHARS or not _PUBLIC_NAME.fullmatch(text):
        raise Fault(
            f'expected at most {_LONGEST_PUBLIC_NAME_CHARS} letters, digits and "._:/@+-", '
            f'found "{text[:80]}"',
            "the name travels in HTTP headers",
        )
    return text


def _event(text: str) -> str:
    if text not in NOTIFIABLE:
        close = get_close_matches(text.lower().replace("-", "_"), NOTIFIABLE, n=1, cutoff=0.6)
        raise Fault(
            f'there is no event "{text}"',
            f'did you mean "{close[0]}"?' if close else f"known: {', '.join(sorted(NOTIFIABLE))}",
        )
    return text


def _webhook(text: str) -> str:
    # Such a URL is often a secret as a whole, so no message repeats it.
    try:
        url = urlsplit(text)
        usable = url.scheme in {"http", "https"} and url.hostname and url.port != 0
    except ValueError:
        usable = False
    if not usable or any(char.isspace() or not char.isprintable() for char in text):
        raise Fault('expected a URL such as "https://hooks.example.com/T0/B1"')
    return text


def _headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _HEADER.fullmatch(name):
            raise Fault(f'"{name}" is not the name of an HTTP header')
        if not value.isprintable():
            raise Fault(
                f'the value of the header "{name}" holds a character that cannot stand in one'
            )
    return headers


def _size(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise Fault(f'a size needs a unit: expected for example "50 GiB", found {value}')
    return units.parse_bytes(value) if isinstance(value, str) else value


def _bytes_or_size(value: Any) -> Any:
    return units.parse_bytes(value) if isinstance(value, str) else value


def _origin(text: str) -> str:
    if text != "*" and not _ORIGIN.fullmatch(text):
        raise Fault(
            f'expected "*" or an origin such as "https://chat.example.com", found "{text}"',
            "an origin is what browsers send: scheme, host in lower case, port where it is not "
            "the scheme's own, and nothing after it",
        )
    return text


def _host(text: str) -> str:
    if ":" in text:
        raise Fault(
            f'expected an IPv4 address or a name, found "{text}"',
            "IPv6 addresses are not supported, and the port has a key of its own: `port`",
        )
    if not _HOST.fullmatch(text):
        raise Fault(f'expected an IPv4 address or a name such as "127.0.0.1", found "{text}"')
    numbers = text.split(".")
    if all(number.isdigit() for number in numbers) and (
        len(numbers) != 4 or any(int(number) > 255 for number in numbers)
    ):
        raise Fault(f'"{text}" is not an IPv4 address')
    return text


def _url(text: str) -> str:
    expected = f'expected a URL such as "http://127.0.0.1:8088", found "{text}"'
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as error:
        raise Fault(f"{expected}: {error}") from error
    if url.scheme not in {"http", "https"} or not url.hostname or port == 0 or " " in text:
        raise Fault(expected)
    if url.query or url.fragment or url.username or url.password:
        raise Fault(f"{expected}: a query, a fragment or a password cannot stand in it")
    if url.path.rstrip("/").endswith("/v1"):
        raise Fault(
            f'expected the server\'s base URL, found "{text}"',
            "leave out /v1: requests keep the path that the client asked for",
        )
    return text.rstrip("/")


def _weights(text: str) -> str:
    page = _HUB_PAGE.match(text)
    if page:
        raise Fault(f'expected a hub id, found the page "{text}"', f'write "{page[1]}"')
    if text.startswith(("http://", "https://")):
        raise Fault(
            f'expected a hub id such as "org/model" or a directory, found the URL "{text}"',
            "fetch the files into a directory and name that",
        )
    # A directory may have spaces in its name, where it is written as one.
    solid = text.replace(" ", "") if text.startswith(("/", ".", "~")) else text
    if text.startswith("-") or any(char.isspace() or not char.isprintable() for char in solid):
        raise Fault(f'expected a hub id such as "org/model" or a directory, found "{text}"')
    return text


def _variables(env: dict[str, str]) -> dict[str, str]:
    for key, value in env.items():
        if not _VARIABLE.fullmatch(key):
            raise Fault(f'"{key}" is not the name of an environment variable')
        if "\0" in value:
            raise Fault(f'the value of "{key}" holds a zero byte')
    return env


def _gpus(indices: list[int]) -> list[int]:
    if len(set(indices)) != len(indices):
        raise Fault(f"expected each GPU once, found {indices}")
    return indices


def _arguments(words: list[str]) -> list[str]:
    if any("\0" in word for word in words):
        raise Fault("an argument holds a zero byte")
    return words


_SIZE_SCHEMA = JsonSchema(
    {
        "type": "string",
        "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*(KiB|MiB|GiB|TiB)\s*$",
        "examples": ["50 GiB", "512 MiB"],
    }
)
Name = Annotated[
    str,
    AfterValidator(_name),
    JsonSchema(
        {
            "type": "string",
            "pattern": f"^{_NAME.pattern}$",
            "maxLength": LONGEST_NAME_CHARS,
        }
    ),
]
PublicName = Annotated[
    str,
    AfterValidator(_public_name),
    JsonSchema(
        {
            "type": "string",
            "pattern": f"^{_PUBLIC_NAME.pattern}$",
            "maxLength": _LONGEST_PUBLIC_NAME_CHARS,
        }
    ),
]
Size = Annotated[int, Field(gt=0), BeforeValidator(_size), _SIZE_SCHEMA]
BytesOrSize = Annotated[
    int,
    Field(gt=0),
    BeforeValidator(_bytes_or_size),
    JsonSchema({"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, _SIZE_SCHEMA.json_schema]}),
]
Text = Annotated[str, Field(min_length=1)]
Origin = Annotated[
    str,
    AfterValidator(_origin),
    JsonSchema({"type": "string", "pattern": rf"^(\*|{_ORIGIN.pattern})$"}),
]
Host = Annotated[Text, AfterValidator(_host)]
Url = Annotated[Text, AfterValidator(_url)]
EventName = Annotated[
    str,
    AfterValidator(_event),
    JsonSchema({"type": "string", "enum": sorted(NOTIFIABLE)}),
]
Webhook = Annotated[Text, AfterValidator(_webhook)]
Headers = Annotated[dict[str, str], AfterValidator(_headers)]
Weights = Annotated[Text, AfterValidator(_weights)]
Count = Annotated[int, Field(ge=1)]
# A router process is bound by one core, so more of them than cores gain nothing, and each holds
# connections of its own to every engine. The limit is there for slips of the finger.
Workers = Annotated[int, Field(ge=1, le=64)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Gpus = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1), AfterValidator(_gpus)]
Env = Annotated[dict[str, str], AfterValidator(_variables)]
Arguments = Annotated[list[str], AfterValidator(_arguments)]
