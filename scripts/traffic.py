"""Constant traffic of streams and plain requests on an instance of fake engines, and its end.

Every request ends as one Outcome. An honest one is an answer that is whole and right, or an
error that says why; everything else somebody must answer for.
"""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import aiohttp

# Longer than anything that is supposed to happen to a request: an engine that hangs is replaced
# after its liveness_timeout_s, a router after 25 s.
HUNG_S = 60.0
# What a client is told where a model, or all of them, cannot answer now.
HONEST = (429, 502, 503)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one request ended. Times are monotonic.

    `kind`: "ok"; "refused" (an error that says why); "told" (a stream that ended with an error
    event); "unreached" (no connection); "cut" (the connection ended before the answer did);
    "hung"; "wrong" (an answer that is not what it should be, or an error that says nothing).
    """

    kind: str
    model: str
    stream: bool
    began_s: float
    ended_s: float
    detail: str = ""

    @property
    def name(self) -> str:
        """Tell streams from plain requests in counts."""
        return f"{'stream' if self.stream else 'plain'} {self.kind}"


@dataclass
class Traffic:
    """Clients that ask one after another until told to end."""

    port: int
    models: tuple[str, ...]
    seed: int
    clients: int = 6
    tokens: int = 12
    pause_s: float = 0.05
    told: Callable[[Outcome], None] = lambda _: None
    counts: Counter[str] = field(default_factory=Counter)
    over: bool = False

    async def run(self) -> None:
        """Ask until `over`; returns once the last answer has come."""
        rngs = [random.Random(f"{self.seed}-{n}") for n in range(self.clients)]
        timeout = aiohttp.ClientTimeout(total=HUNG_S)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            await asyncio.gather(*(self._client(session, rng) for rng in rngs))

    async def _client(self, session: aiohttp.ClientSession, rng: random.Random) -> None:
        while not self.over:
            outcome = await self.ask(
                session,
                model=rng.choice((*self.models, "auto")),
                stream=rng.random() < 0.5,
                tokens=rng.randint(1, 2 * self.tokens),
            )
            self.counts[outcome.name] += 1
            self.told(outcome)
            patience = 1 if outcome.kind == "ok" else 4
            await asyncio.sleep(rng.random() * 2 * self.pause_s * patience)

    async def ask(
        self, session: aiohttp.ClientSession, *, model: str, stream: bool, tokens: int
    ) -> Outcome:
        """Send one request and say how it ended."""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": "Tell me a story about the sea."}],
            "max_tokens": tokens,
            "stream": stream,
        }
        began_s = time.monotonic()
        kind, detail = "unreached", ""
        try:
            url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
            async with session.post(url, json=body) as response:
                kind = "cut"
                text = await response.text()
                kind, detail = judge(response.status, text, stream=stream, tokens=tokens)
        except TimeoutError:
            kind = "hung"
        except aiohttp.ClientConnectorError as error:
            detail = str(error)
        except (aiohttp.ClientError, OSError) as error:
            kind, detail = "cut", repr(error)
        return Outcome(
            kind=kind,
            model=model,
            stream=stream,
            began_s=began_s,
            ended_s=time.monotonic(),
            detail=detail,
        )


def judge(status: int, text: str, *, stream: bool, tokens: int) -> tuple[str, str]:
    """Return the kind of an answer that came whole, and what is remarkable about it."""
    if status != 200:
        message = ""
        with suppress(ValueError, KeyError, TypeError):
            message = str(json.loads(text)["error"]["message"])
        honest = status in HONEST and bool(message)
        return ("refused" if honest else "wrong"), f"{status} {message or text[:200]}"
    if not stream:
        with suppress(ValueError, KeyError, IndexError):
            if json.loads(text)["choices"][0]["message"]["content"] == "hello":
                return "ok", ""
        return "wrong", text[:200]
    return _judge_stream(text, tokens)


def _judge_stream(text: str, tokens: int) -> tuple[str, str]:
    """A whole stream has every token once, in order, and its end."""
    events = [line.removeprefix("data: ") for line in text.splitlines() if line]
    numbers: list[int] = []
    for number, event in enumerate(events):
        last = number == len(events) - 1
        if event == "[DONE]":
            whole = last and numbers == list(range(tokens))
            return ("ok", "") if whole else ("wrong", text[-200:])
        try:
            found = json.loads(event)
            if "error" in found:
                message = str(found["error"]["message"])
                return ("told", message) if last and message else ("wrong", event[:200])
            numbers.append(int(found["choices"][0]["delta"]["content"]))
        except (ValueError, KeyError, IndexError, TypeError):
            # A line that the engine did not finish, before the event that says so.
            if number != len(events) - 2 or "error" not in events[-1]:
                return "wrong", event[:200]
    return "cut", f"a stream of {len(numbers)} of {tokens} tokens ended without a word"
