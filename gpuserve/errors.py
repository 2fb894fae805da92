"""Every way to give up, with its exit status.

A class stands for something that somebody does differently: the author of a
profile, the administrator of the box, the next attempt, us. The numbers are those
of sysexits(3), because systemd units and shell scripts already speak them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class ExitStatus(IntEnum):
    """The exit statuses of every command; README and the systemd unit name the same."""

    DONE = 0
    NO = 1  # the answer is no: not ready, Failed, …
    USAGE = 2
    NOT_RUNNING = 3
    UNAVAILABLE = 69  # EX_UNAVAILABLE: the host lacks something
    SOFTWARE = 70  # EX_SOFTWARE: a fault of gpuserve itself; a crash report was written
    TEMPFAIL = 75  # EX_TEMPFAIL: fits, but not now
    CONFIG = 78  # EX_CONFIG: the profile is invalid or does not fit
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong, with its place: what `check --json` lists under `problems`.

    `where` is a TOML path such as `model[1].max_model_len`, or empty when the problem
    is the machine's; `file` and `line` (from 1) are None when there is no such place.
    A warning does not change the exit status.
    """

    message: str
    where: str = ""
    file: str | None = None
    line: int | None = None
    hint: str | None = None
    warning: bool = False


class GpuserveError(Exception):
    """Something that ends a command; printed as `error: …` and `hint: …`, never a traceback."""

    exit_status = ExitStatus.SOFTWARE

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(GpuserveError):
    """The command line asks for something that does not exist or contradicts itself."""

    exit_status = ExitStatus.USAGE


class ProfileError(GpuserveError):
    """The profile is not valid; `problems` holds every reason at once."""

    exit_status = ExitStatus.CONFIG

    def __init__(self, problems: Sequence[Problem]) -> None:
        count = len(problems)
        super().__init__(f"the profile has {count} problem{'s' if count != 1 else ''}")
        self.problems = tuple(problems)


class TryLater(GpuserveError):
    """It would work, but not now: others hold what it needs."""

    exit_status = ExitStatus.TEMPFAIL


class HostUnavailable(GpuserveError):
    """The host lacks something: a driver, a vLLM, a free port, room on a disk."""

    exit_status = ExitStatus.UNAVAILABLE


class NotRunning(GpuserveError):
    """No instance runs in the run directory."""

    exit_status = ExitStatus.NOT_RUNNING


class AnswerIsNo(GpuserveError):
    """The command worked and its answer is no, for example a model that Failed."""

    exit_status = ExitStatus.NO
