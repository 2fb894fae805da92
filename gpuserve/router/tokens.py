"""Asks an engine for the tokens of a prompt that is near the edge of its context."""

import asyncio

import aiohttp
from multidict import CIMultiDict

from gpuserve.router.links import Died, Link, Refused
from gpuserve.routing.counting import counted

# A tokenizer does a long prompt in some ten milliseconds; an engine that needs longer is busy,
# and the estimate has to do.
TIMEOUT_S = 0.5
_ANSWER_BYTES = 4096


async def prompt_tokens(
    question: tuple[str, bytes] | None, link: Link, headers: CIMultiDict[str]
) -> int | None:
    """Return what a prompt counts in the tokens of a model, None where nobody says.

    *question* is counting.counting_request's. *headers* go along: a key may be needed. It takes
    TIMEOUT_S at most.
    """
    if question is None:
        return None
    path, body = question
    try:
        async with asyncio.timeout(TIMEOUT_S):
            answer = await link.send("POST", path, _for_json(headers), body)
            try:
                begin = await answer.content.read(_ANSWER_BYTES)
            finally:
                answer.release()
    except (Refused, Died, TimeoutError, aiohttp.ClientError):
        return None
    return counted(begin) if answer.status == 200 else None


def _for_json(headers: CIMultiDict[str]) -> CIMultiDict[str]:
    kept = CIMultiDict(headers)
    kept["content-type"] = "application/json"
    kept.popall("accept-encoding", None)
    return kept
