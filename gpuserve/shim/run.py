"""Runs one engine: starts it, reads its log, passes on the request to end, leaves nothing behind.

SIGTERM asks the engine to end, as often as needed (vLLM loses the signal between engine start
and ready), and kills what is left of it after `stop_timeout_s`. SIGINT kills at once. If the
keeper dies, the kernel sends SIGTERM. If the shim itself is killed, the kernel kills the engine's
first process, and what that leaves behind becomes the keeper's child, for the controller to end.
"""

import json
import os
import select
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpuserve.lifecycle.logline import (
    MAX_READ_CHARS,
    ORDINARY,
    ErrorLine,
    allocation_of,
    better_error,
    phase_of,
)
from gpuserve.machine import cgroup, processes
from gpuserve.machine.kernel import become_subreaper, die_with_parent
from gpuserve.shim.log import EngineLog, Lines
from gpuserve.shim.status import EngineStatus, write

# An engine core whose server is gone ends about 2 s after SIGTERM.
LEFTOVER_GRACE_S = 5.0
REPEAT_TERM_S = 2.0
# When the keeper is gone nobody waits for us: systemd or the operator wants the box back.
ORPHANED_STOP_S = 3.0
STATUS_EVERY_S = 0.25
READ_BYTES = 64 * 1024
# The host's OOM killer shall take an engine before keeper, router or sshd. An unprivileged
# process may raise its own value: proc_pid_oom_score_adj(5).
OOM_SCORE_ADJ = 200
# VLLM_API_KEY: an engine that asks for a key would refuse the router. VLLM_PORT: engines take
# their internal ports upward from it, so it must not be the same for all.
NOT_FOR_ENGINES = (
    *("NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "SUPERVISOR_"),
    *("VLLM_API_KEY", "VLLM_PORT"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLaunch:
    """launches/NAME.json as the shim reads it. `keeper_pid` 0: do not look for the keeper."""

    launch_id: str
    name: str
    argv: tuple[str, ...]
    env: dict[str, str]
    stop_timeout_s: float
    keeper_pid: int
    cgroup: str | None


def read_launch(path: Path) -> EngineLaunch:
    """Return the launch in *path*; raises OSError, ValueError or KeyError if there is none."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return EngineLaunch(
        launch_id=found["launch_id"],
        name=found["name"],
        argv=tuple(found["argv"]),
        env=dict(found["env"]),
        stop_timeout_s=float(found["stop_timeout_s"]),
        keeper_pid=int(found["keeper_pid"]),
        cgroup=found.get("cgroup"),
    )


class Shim:
    """One run of one engine, from spawn to the last descendant's end."""

    def __init__(self, launch: EngineLaunch, status_path: Path, log_path: Path) -> None:
        own = processes.read(os.getpid())
        self._launch = launch
        self._status_path = status_path
        self._status = EngineStatus(
            launch_id=launch.launch_id,
            name=launch.name,
            shim_pid=os.getpid(),
            shim_start_ticks=own.start_ticks if own else 0,
            boot=processes.boot_id(),
            started_unix_s=time.time(),
        )
        self._log = EngineLog(log_path)
        self._lines = Lines()
        self._error: ErrorLine | None = None
        self._dirty = True
        self._written_s = 0.0
        self._engine: subprocess.Popen[bytes] | None = None
        self._term_at_s: float | None = None
        self._kill_at_s: float | None = None
        self._cgroup = cgroup.Group(Path(launch.cgroup)) if launch.cgroup else None

    def run(self) -> int:
        """Return the engine's exit status, 128 + n for signal n, once nothing is left."""
        wake = self._take_signals()
        become_subreaper()
        die_with_parent(signal.SIGTERM)
        if self._launch.keeper_pid not in (0, os.getppid()):
            return 70  # the keeper died before the kernel was told to tell us
        pipe = self._spawn()
        if pipe is None:
            return 127
        self._loop(pipe, wake)
        self._read(pipe)
        for line in self._lines.end():
            self._take_line(line)
        if self._cgroup is not None:
            self._cgroup.remove()
        if self._status.exit_code and self._status.last_error is None and self._error is not None:
            self._status.last_error = self._error.text  # its last line: better than nothing
        self._status.ended_unix_s = time.time()
        self._write_status()
        code, number = self._status.exit_code, self._status.exit_signal
        return code if code is not None else 128 + (number or 0)

    def _take_signals(self) -> int:
        """Route signals into a pipe that the loop polls; return its reading end."""
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        # `up` blocks SIGHUP for the keeper, and a mask is inherited over fork and exec.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        return reader

    def _spawn(self) -> int | None:
        """Start the engine; return the reading end of its output, or None if it cannot start."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reader, False)
        self._status.output_inode = os.fstat(reader).st_ino
        self._write_status()  # before there is anybody who could outlive us
        env = {k: v for k, v in os.environ.items() if not k.startswith(NOT_FOR_ENGINES)}
        self._log.write(b"[gpuserve] starting " + json.dumps(self._launch.argv).encode())
        try:
            self._engine = subprocess.Popen(
                self._launch.argv,
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                env=env | self._launch.env,
                start_new_session=True,
                preexec_fn=self._in_child,  # noqa: PLW1509 - this process has one thread
            )
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            self._status.last_error = f"cannot execute {self._launch.argv[0]}: {error}"
            self._status.exit_code = 127
            self._status.ended_unix_s = time.time()
            self._log.write(f"[gpuserve] {self._status.last_error}".encode())
            self._write_status()
            return None
        finally:
            os.close(writer)
        engine = processes.read(self._engine.pid)
        self._status.pid = self._engine.pid
        self._status.pid_start_ticks = engine.start_ticks if engine else 0
        self._status.phase = "importing"
        self._write_status()
        return reader

    def _in_child(self) -> None:
        die_with_parent(signal.SIGKILL)
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE_ADJ), encoding="ascii")
        if self._cgroup is not None:
            self._cgroup.enter()

    def _loop(self, pipe: int, wake: int) -> None:
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        poll.register(wake, select.POLLIN)
        while True:
            ready = dict(poll.poll(self._patience_ms()))
            if wake in ready:
                self._take_wakeups(wake)
            if pipe in ready and not self._read(pipe):
                poll.unregister(pipe)
            if self._reap() and self._nothing_is_left():
                return
            self._escalate()
            if self._dirty and time.monotonic() - self._written_s >= STATUS_EVERY_S:
                self._write_status()

    def _patience_ms(self) -> int:
        """How long the loop may sleep: short while something ends, for ever otherwise."""
        ending = self._kill_at_s is not None or self._status.exit_code is not None
        if ending or self._status.exit_signal is not None:
            return 100
        return int(STATUS_EVERY_S * 1000) if self._dirty else -1

    def _take_wakeups(self, wake: int) -> None:
        with suppress(BlockingIOError):
            for number in os.read(wake, 512):
                if number == signal.SIGTERM:
                    self._stop(self._stop_timeout_s())
                elif number == signal.SIGINT:
                    self._stop(0.0)

    def _stop_timeout_s(self) -> float:
        if self._launch.keeper_pid not in (0, os.getppid()):
            return min(self._launch.stop_timeout_s, ORPHANED_STOP_S)
        return self._launch.stop_timeout_s

    def _stop(self, within_s: float) -> None:
        now = time.monotonic()
        self._term_at_s = self._term_at_s or now
        if self._kill_at_s is None or now + within_s < self._kill_at_s:
            self._kill_at_s = now + within_s

    def _reap(self) -> bool:
        """Reap what has ended; return whether the engine's first process has."""
        assert self._engine is not None  # noqa: S101 - for mypy
        while True:
            try:
                pid, how = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == self._engine.pid:
                code = os.waitstatus_to_exitcode(how)
                self._engine.returncode = code
                self._status.exit_code = code if code >= 0 else None
                self._status.exit_signal = -code if code < 0 else None
                self._dirty = True
        return self._engine.returncode is not None

    def _nothing_is_left(self) -> bool:
        """Return whether no descendant lives; start ending those that do."""
        left = self._living()
        if not left:
            return True
        if self._status.left_behind == 0:
            self._status.left_behind = len(left)
            self._log.write(b"[gpuserve] the engine ended and left %d processes" % len(left))
            processes.signal_all(left, signal.SIGTERM)
            self._stop(LEFTOVER_GRACE_S)
        return False

    def _living(self) -> list[processes.Process]:
        return processes.descendants(os.getpid(), processes.everything())

    def _escalate(self) -> None:
        now = time.monotonic()
        if self._kill_at_s is not None and now >= self._kill_at_s:
            if self._cgroup is not None:
                self._cgroup.kill()
            processes.signal_all(self._living(), signal.SIGKILL)
            self._term_at_s = None
            self._kill_at_s = now + 1.0
        elif self._term_at_s is not None and now >= self._term_at_s:
            assert self._engine is not None  # noqa: S101 - for mypy
            if self._engine.returncode is None:
                os.kill(self._engine.pid, signal.SIGTERM)
            self._term_at_s = now + REPEAT_TERM_S

    def _read(self, pipe: int) -> bool:
        """Take what the engine has written; return False at the end of its output."""
        try:
            data = os.read(pipe, READ_BYTES)
        except BlockingIOError:
            return True
        for line in self._lines.feed(data):
            self._take_line(line)
        return bool(data)

    def _take_line(self, raw: bytes) -> None:
        self._log.write(raw)
        if self._log.dropped != self._status.dropped_lines:
            self._dirty = True
        line = raw[:MAX_READ_CHARS].decode("utf-8", "replace")
        phase = phase_of(line)
        if phase is not None and phase != self._status.phase:
            self._status.phase = phase
            self._dirty = True
        allocated = allocation_of(line)
        if allocated:
            self._status.allocated.update(allocated)
            self._dirty = True
        error = better_error(self._error, line)
        if error is not self._error and error is not None:
            self._error = error
            if error.weight > ORDINARY:
                self._status.last_error = error.text
                self._dirty = True

    def _write_status(self) -> None:
        self._status.dropped_lines = self._log.dropped
        write(self._status_path, self._status)
        self._dirty = False
        self._written_s = time.monotonic()
