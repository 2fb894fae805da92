"""Tells whoever the profile names in `[[on_event]]`: a command or a webhook, never in the way.

Each has a queue of its own, bounded; each attempt has a time limit; what cannot be told is tried
again a few times and then only recorded.
"""

import asyncio
import json
import os
import platform
import random
import signal
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import aiohttp

from gpuserve.lifecycle.audit import Entry, Why, line_of
from gpuserve.lifecycle.backoff import jittered
from gpuserve.machine.auditlog import iso
from gpuserve.machine.kernel import die_with_parent
from gpuserve.profile.spec import OnEventSpec

# The pauses between the attempts: over a minute and a half a network or a pager comes back.
PAUSES_S = (1.0, 4.0, 16.0, 64.0)
MAX_QUEUED = 100
# How long the end of the instance waits for what is still to be told.
CLOSE_S = 3.0
_TRY_AGAIN = frozenset((408, 425, 429))
_NOT_FOR_COMMANDS = ("NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "SUPERVISOR_")

Failed = Callable[[OnEventSpec, Entry, str, int], None]


class _Hopeless(Exception):
    """Trying again changes nothing."""


class Notifiers:
    """Everybody that the profile names. *failed* is called where somebody could not be told."""

    def __init__(self, instance: str, failed: Failed) -> None:
        self._instance = instance
        self._failed = failed
        self._running: dict[OnEventSpec, _Target] = {}

    def use(self, specs: Iterable[OnEventSpec]) -> None:
        """Tell *specs* from now on; whoever is not among them any more is dropped at once."""
        wanted = tuple(specs)
        for spec in set(self._running) - set(wanted):
            self._running.pop(spec).task.cancel()
        for spec in wanted:
            if spec not in self._running:
                self._running[spec] = _Target(spec, self._instance, self._failed)

    def take(self, entry: Entry) -> None:
        """Have *entry* told to those who want its event; returns at once."""
        for spec, target in self._running.items():
            if entry.event in spec.events:
                target.add(entry)

    async def close(self) -> None:
        """Wait CLOSE_S for what is still to be told, then give up."""
        targets = self._running.values()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await asyncio.gather(*(target.idle.wait() for target in targets))
        for target in targets:
            target.task.cancel()
        if targets:
            await asyncio.wait([target.task for target in targets], timeout=1.0)


class _Target:
    """One command or webhook and what it is still to be told."""

    def __init__(self, spec: OnEventSpec, instance: str, failed: Failed) -> None:
        self._spec = spec
        self._instance = instance
        self._failed = failed
        self._queue: deque[Entry] = deque()
        self._more = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()
        self.task = asyncio.create_task(self._run())

    def add(self, entry: Entry) -> None:
        if len(self._queue) == MAX_QUEUED:
            self._failed(self._spec, self._queue.popleft(), "too many wait to be told", 0)
        self._queue.append(entry)
        self.idle.clear()
        self._more.set()

    async def _run(self) -> None:
        while True:
            await self._more.wait()
            while self._queue:
                await self._tell(self._queue.popleft())
            self._more.clear()
            self.idle.set()

    async def _tell(self, entry: Entry) -> None:
        body = message(entry, self._instance)
        attempt, why = 0, None
        for pause_s in (0.0, *PAUSES_S):
            await asyncio.sleep(jittered(pause_s, random.random()))  # noqa: S311
            attempt += 1
            why, hopeless = await self._attempt(entry, body)
            if why is None:
                return
            if hopeless:
                break
        self._failed(self._spec, entry, why or "", attempt)

    async def _attempt(self, entry: Entry, body: bytes) -> tuple[str | None, bool]:
        """Return why it did not work, None if it did, and whether it never will."""
        spec = self._spec
        try:
            async with asyncio.timeout(spec.timeout_s):
                if spec.command is not None:
                    await _run_command(spec.command, entry, body)
                else:
                    await _post(spec, body)
        except TimeoutError:
            return f"no end within {spec.timeout_s:g} s (timeout_s)", False
        except (FileNotFoundError, PermissionError, _Hopeless) as error:
            return _without_secrets(spec, str(error)), True
        except (OSError, aiohttp.ClientError, ValueError) as error:
            return _without_secrets(spec, str(error) or type(error).__name__), False
        return None, False


def message(entry: Entry, instance: str) -> bytes:
    """Return what a command reads and a webhook gets: the line of events.jsonl, and who says it.

    `text` is the sentence for people, under the name that chat systems look for.
    """
    row = json.loads(line_of(entry, iso(entry.at_unix_s)))
    text = f"gpuserve on {platform.node()}: {entry.sentence()}"
    return json.dumps({"text": text, "host": platform.node(), "instance": instance, **row}).encode()


def not_told(spec: OnEventSpec, entry: Entry, why: str, attempts: int) -> Why:
    """Return what is recorded where somebody could not be told."""
    text = f'{spec.target} was not told of "{entry.event}": {why}'
    return Why(text=text, cause="on_event", figures={"attempts": attempts})


async def _run_command(command: tuple[str, ...], entry: Entry, body: bytes) -> None:
    env = {k: v for k, v in os.environ.items() if not k.startswith(_NOT_FOR_COMMANDS)}
    env |= {"GPUSERVE_EVENT": entry.event, "GPUSERVE_MODEL": entry.model or ""}
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env=env,
        start_new_session=True,
        preexec_fn=lambda: die_with_parent(signal.SIGKILL),
    )
    try:
        await process.communicate(body)
    finally:
        with suppress(ProcessLookupError):  # whatever it started, too
            os.killpg(process.pid, signal.SIGKILL)
        if process.returncode is None:
            await asyncio.shield(process.wait())
    if process.returncode:
        raise ValueError(f"it ended with status {process.returncode}")


async def _post(spec: OnEventSpec, body: bytes) -> None:
    headers = {"Content-Type": "application/json", **dict(spec.headers)}
    if spec.bearer_token_file is not None:
        token = await asyncio.to_thread(Path(spec.bearer_token_file).read_text, "utf-8")
        headers["Authorization"] = f"Bearer {token.strip()}"
    async with (
        aiohttp.ClientSession(trust_env=True) as session,
        session.post(spec.url or "", data=body, headers=headers, allow_redirects=False) as answer,
    ):
        status = answer.status
    if status >= 500 or status in _TRY_AGAIN:
        raise ValueError(f"HTTP status {status}")
    if status >= 300:
        raise _Hopeless(f"HTTP status {status}")


def _without_secrets(spec: OnEventSpec, text: str) -> str:
    """A URL may be a secret, and some of aiohttp's messages hold it."""
    for secret in (spec.url, *(value for _, value in spec.headers)):
        if secret:
            text = text.replace(secret, "…")
    return text
