"""Who answers a request, from its bytes; in a process of its own where they are many."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from gpuserve.routing.body import BadBody, as_sent, parse_object
from gpuserve.routing.choose import Choice, Refusal, choose
from gpuserve.routing.counting import counting_request
from gpuserve.routing.form import form_model
from gpuserve.routing.request import NO_HEADERS, Need, need_of, task_of, text_bytes
from gpuserve.routing.table import RoutingTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as far as it decides who answers; `content_type` is "" where there is none.

    `headers` are by name in lower case, `counted_tokens` and `counted_by` as in Need. A body with
    more than `most_objects` is not read.
    """

    method: str
    path: str
    content_type: str
    headers: Mapping[str, str]
    raw: bytes
    counted_tokens: int | None = None
    counted_by: str | None = None
    most_objects: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """Who answers. `sent` goes to it instead of the body, None where that stays as it is.

    `question` is what to ask its tokenizer (a path and a body) where the choice wants that, None
    where there is no way to ask.
    """

    choice: Choice
    sent: bytes | None
    question: tuple[str, bytes] | None


def decide(
    asked: Asked, table: RoutingTable, dark: AbstractSet[str], load: Mapping[str, int]
) -> Decided | Refusal:
    """Return who answers *asked*; *dark* and *load* as for `choose`. Raises body.Dense."""
    need = need_from(
        asked.method,
        asked.path,
        asked.content_type,
        asked.raw,
        asked.headers,
        most_objects=asked.most_objects,
    )
    if isinstance(need, Refusal):
        return need
    if asked.counted_tokens is not None:
        need = replace(need, counted_tokens=asked.counted_tokens, counted_by=asked.counted_by)
    choice = choose(need, table, dark, load)
    if isinstance(choice, Refusal):
        return choice
    if choice.ask_tokenizer:
        return Decided(choice=choice, sent=None, question=counting_request(need, choice.model))
    model = choice.model if choice.rewrite else None
    sent = as_sent(asked.raw, need.body, model=model, edits=choice.edits)
    return Decided(choice=choice, sent=None if sent is asked.raw else sent, question=None)


def need_from(
    method: str,
    path: str,
    content_type: str,
    raw: bytes,
    headers: Mapping[str, str] = NO_HEADERS,
    *,
    most_objects: int | None = None,
) -> Need | Refusal:
    """Return what the request needs, or a 400 that says what is wrong with its body.

    *content_type* is the header, "" where there is none. *headers* are all of them, with names
    in lower case or looked up whatever the case: rules may ask for any. Raises body.Dense where
    the body has more than *most_objects*.
    """
    try:
        if content_type and content_type.partition(";")[0].strip().lower() == "multipart/form-data":
            return Need(task="other", model=form_model(raw, content_type))
        if not raw and (method != "POST" or task_of(path) == "other"):
            return Need(task="other")
        return need_of(path, parse_object(raw, most_objects), text_bytes(raw), headers)
    except BadBody as error:
        return Refusal(status=400, code="invalid_body", message=str(error))
