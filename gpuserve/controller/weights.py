"""Has the weights of one model here before its engine asks for them.

The fetch is a process of its own, `gpuserve pull`, so that a hung download or a crash in it
touches nobody, and so that it can be ended. It resumes where it was.
"""

import asyncio
import json
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpuserve.errors import ExitStatus
from gpuserve.machine.kernel import die_with_parent
from gpuserve.units import gib


@dataclass(frozen=True, slots=True)
class Fetched:
    """How a fetch ended: `reason` is None when the weights are here.

    `hopeless`: trying again changes nothing (offline, no such repository, gated).
    """

    reason: str | None
    hopeless: bool = False


async def fetch(profile: Path, model: str, progress: Callable[[str], None]) -> Fetched:
    """Run `gpuserve pull` for *model*, telling *progress* how far it is."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "gpuserve", "pull", str(profile)),
        *("--model", model, "--json"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        preexec_fn=lambda: die_with_parent(signal.SIGTERM),
    )
    assert process.stdout is not None  # noqa: S101 - for mypy
    message = ""
    try:
        async for line in process.stdout:
            message = _tell(line, progress) or message
        status = await process.wait()
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        raise
    if status == ExitStatus.DONE:
        return Fetched(None)
    reason = message or f"`gpuserve pull` ended with status {status}"
    return Fetched(reason, hopeless=status in (ExitStatus.UNAVAILABLE, ExitStatus.CONFIG))


def _tell(line: bytes, progress: Callable[[str], None]) -> str | None:
    """Pass a line of progress on; return its message if it has one."""
    try:
        found = json.loads(line)
        done, total = int(found.get("done_bytes") or 0), int(found.get("total_bytes") or 0)
    except (ValueError, TypeError, AttributeError):
        return None
    if total:
        progress(f"fetching weights: {gib(done, 1)} of {gib(total, 1)}")
    message = found.get("message")
    return message if isinstance(message, str) and message else None
