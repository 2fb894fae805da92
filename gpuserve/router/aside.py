"""Work over large bodies, in a process of its own beside the router.

Parsing 30 MiB of JSON takes a second or two, and holds the interpreter's lock while it does, in
whatever thread: every stream of the worker would stand still for as long. Such bodies are rare
(images in base64, prompts of a hundred thousand tokens), so one process does them one after the
other; it starts with the first and ends when there were none for a while.
"""

import asyncio
import os
import pickle
import signal
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar, cast

# From here on, work over a body leaves the process: up to this it takes a millisecond or two,
# which is less than handing it over costs. The densest JSON without objects takes 20 ns per byte.
ASIDE_BYTES = 256 << 10
# And with more objects than these: each takes as long as 400 bytes of text. A coding agent with a
# hundred tools sends some two thousand.
MOST_OBJECTS = 4096
_IDLE_S = 30.0
_LENGTH = struct.Struct("!Q")

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Lost(Exception):
    """The process ended before it had an answer, most likely for want of memory."""


class Aside:
    """The process beside one worker; it is there only while there is work for it."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._running: set[asyncio.Task[Any]] = set()

    async def run(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Return what *work*, a function of a module, returns.

        Raises what it raises, and Lost.
        """
        # Who asked may leave meanwhile; the answer must be taken all the same.
        task = asyncio.create_task(self._ask((work, args, kwargs)))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(_seen)
        fine, answer = await asyncio.shield(task)
        if not fine:
            raise answer
        return cast("_T", answer)

    async def close(self) -> None:
        """End the process."""
        if self._idle is not None:
            self._idle.cancel()
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _ask(self, asked: Any) -> tuple[bool, Any]:
        async with self._turn:
            if self._idle is not None:
                self._idle.cancel()
            process = await self._there()
            to = cast("asyncio.StreamWriter", process.stdin)
            back = cast("asyncio.StreamReader", process.stdout)
            said = pickle.dumps(asked, protocol=5)
            try:
                to.write(_LENGTH.pack(len(said)))
                to.write(said)
                await to.drain()
                (size,) = _LENGTH.unpack(await back.readexactly(_LENGTH.size))
                answer = await back.readexactly(size)
            # uvloop raises RuntimeError where the pipe closed before anything was written.
            except (ConnectionError, RuntimeError, asyncio.IncompleteReadError) as error:
                self._process = None
                raise Lost("the process that reads large bodies ended") from error
            self._idle = asyncio.get_running_loop().call_later(_IDLE_S, self._rest)
            # Our own process, over a pipe of ours.
            return cast("tuple[bool, Any]", pickle.loads(answer))  # noqa: S301

    async def _there(self) -> asyncio.subprocess.Process:
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "gpuserve.router.aside",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=1 << 20,
            )
        return process

    def _rest(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()  # it ends at the end of its input


def _seen(task: "asyncio.Task[Any]") -> None:
    """Take note of an exception that nobody waits for any more."""
    if not task.cancelled():
        task.exception()


def _serve() -> None:
    """Do what stands on standard input until it ends; answers go to standard output."""
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anything prints must not stand among the answers
    while len(head := asked.read(_LENGTH.size)) == _LENGTH.size:
        (size,) = _LENGTH.unpack(head)
        whole = asked.read(size)
        if len(whole) < size:
            return  # the parent ended in the middle of it
        work, args, kwargs = pickle.loads(whole)  # noqa: S301 - from our parent
        del whole
        try:
            answer = True, work(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - it is raised there
            answer = False, error
        del args, kwargs
        said = pickle.dumps(answer, protocol=5)
        try:
            answers.write(_LENGTH.pack(len(said)) + said)
            answers.flush()
        except BrokenPipeError:
            return  # likewise
        del answer, said


def main() -> None:
    """Serve the parent and end with it."""
    from gpuserve.machine.kernel import die_with_parent

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent decides
    parent = os.getppid()
    die_with_parent(signal.SIGKILL)
    if os.getppid() == parent:
        _serve()


if __name__ == "__main__":
    main()
