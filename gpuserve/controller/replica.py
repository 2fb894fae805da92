"""One engine: takes events, asks `step` what follows, carries it out.

All of it runs in one task, so an engine has one writer. Timers and probes carry the epoch in
which they were asked for and are dropped when the state has changed since; requests of the
operator and the end of the process never are.
"""

import asyncio
import json
import os
import random
import re
import signal
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from gpuserve.controller.audit import Audit
from gpuserve.controller.remembered import Memory
from gpuserve.keeperconf import engine_program
from gpuserve.lifecycle.audit import Why, entered
from gpuserve.lifecycle.backoff import jittered, within_the_hour
from gpuserve.lifecycle.drift import gained_by_compiling, missing_cache_bytes
from gpuserve.lifecycle.endings import Ending, classify
from gpuserve.lifecycle.reasons import because, timeout_reason
from gpuserve.lifecycle.states import (
    After,
    Arm,
    BackingOff,
    Command,
    Disarm,
    Draining,
    DrainRequested,
    Event,
    Exited,
    Failed,
    GateOpened,
    Kill,
    Killing,
    ProbeMissed,
    Queued,
    Ready,
    RestartRequested,
    Spawn,
    Starting,
    StartRequested,
    State,
    Stopped,
    Stopping,
    StopRequested,
    Terminate,
    TimerFired,
    Unkillable,
    Unready,
    WeightsMissed,
)
from gpuserve.lifecycle.step import Policy, step
from gpuserve.machine import oomkills
from gpuserve.machine.families import Output
from gpuserve.machine.files import overwrite_file
from gpuserve.machine.keeper import KeeperGone, KeeperRefused, KeeperStopping
from gpuserve.machine.ports import why_not_bindable
from gpuserve.machine.processes import age_s, descendants, everything, same
from gpuserve.plan import Launch
from gpuserve.plandiff import starts_alike
from gpuserve.rundir import RunDir
from gpuserve.shim import status as shim_status
from gpuserve.shim.run import read_launch

# A drain that is over its time looks this often whether the neighbour is through.
DRAIN_AGAIN_S = 2.0


class Box(Protocol):
    """What a replica needs from the controller around it."""

    run_dir: RunDir
    keeper_pid: int
    cgroup: Path | None
    memory: Memory
    audit: Audit
    stopping: bool

    async def start_program(self, program: str) -> int:
        """Have the keeper start a program; return its pid, 0 if it ended at once."""

    async def find_program(self, program: str) -> int:
        """Return the pid of a program as the keeper has it, 0 if it does not run."""

    async def state_changed(self, replica: "Replica") -> None:
        """Make a new state known to the routers before anything is done about it."""

    async def end_strays(self, output: Output | None = None) -> int:
        """End what killed shims left behind, and who writes to *output*; return how many."""

    async def free_bytes(self, devices: Collection[str]) -> dict[str, int]:
        """Return what is free on *devices* now, without those that cannot be read."""

    def starting_beside(self, replica: "Replica") -> str | None:
        """Return who starts on a device of *replica* and measures its memory, None if nobody."""


@dataclass(slots=True)
class _Shim:
    """The running shim: its pidfd is readable when it has ended."""

    pid: int
    start_ticks: int
    pidfd: int


class Replica:
    """The life of one engine. `tell` it events; read `state`, `reason` and the rest."""

    def __init__(self, launch: Launch, policy: Policy, box: Box, state: State) -> None:
        self.launch = launch
        self.state: State = state
        self.since_s = time.monotonic()
        self.reason: str | None = None
        self.last_error: str | None = None
        self.weights_here = False
        self.cache: dict[str, str] = {}  # labels of vLLM's cache_config_info
        self.cause: str | None = None  # the word for `reason`
        self.drift: Why | None = None  # what it holds otherwise than planned
        self.routed = True  # whether the routers have been told of the state
        self.gives_way = False  # whether it is to be stopped, and serves until that harms nobody
        self._next = launch
        self._policy = policy
        self._box = box
        self._epoch = 0
        self._inbox: asyncio.Queue[tuple[int | None, Event, Why | None]] = asyncio.Queue()
        self._undecided = 0
        self._timer: asyncio.TimerHandle | None = None
        self._shim: _Shim | None = None
        self._launch_id = ""
        self._kills = oomkills.read()
        self._let_in: dict[str, int] = {}  # what was free when the gate opened, by device
        self._engine_pid = 0
        self._falls_apart = False
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        """The engine's name in the profile."""
        return self.launch.name

    @property
    def outdated(self) -> bool:
        """Whether it runs with a launch that is not to be used again."""
        return self.state.alive and not starts_alike(self.launch, self._next)

    @property
    def next_launch(self) -> Launch:
        """How it will be started next."""
        return self._next

    def expect(self, launch: Launch, policy: Policy) -> None:
        """Have the next start use *launch*; patience and names count from now on."""
        self._policy = policy
        self._next = launch
        if self.state.alive:
            self.launch = replace(self.launch, patience=launch.patience, aliases=launch.aliases)
        else:
            self._take_up()

    def _take_up(self) -> None:
        """Go by the next launch from now on: nothing runs with the other any more."""
        self.weights_here = self.weights_here and self.launch.weights == self._next.weights
        self.launch = self._next

    @property
    def epoch(self) -> int:
        """Changes whenever the state does; hand it back with what belongs to this state."""
        return self._epoch

    @property
    def busy(self) -> bool:
        """Whether an event is still to be taken, or being carried out."""
        return self._undecided > 0

    @property
    def wanted(self) -> bool:
        """Whether it should run, now or after what is being done to it."""
        return self.state.wanted and getattr(self.state, "after", None) is not After.STOP

    @property
    def moves_memory(self) -> bool:
        """Whether its GPUs are closed to other starts.

        Also while what is left of an engine that ended unasked is ended, and before a planned
        stop: both free memory.
        """
        state = self.state
        drains = isinstance(state, Draining) and state.after is not After.HOLD
        falls_apart = state.alive and self._falls_apart
        return state.moves_memory or drains or falls_apart or self.gives_way

    @property
    def shim_pid(self) -> int:
        """The pid of the running shim, 0 if none runs."""
        return self._shim.pid if self._shim else 0

    @property
    def phase_s(self) -> float:
        """How long the engine has been in its state, in seconds."""
        return time.monotonic() - self.since_s

    def tell(self, event: Event, *, epoch: int | None = None, why: Why | None = None) -> None:
        """Deliver an event; with *epoch* only if the state has not changed since."""
        self._undecided += 1
        self._inbox.put_nowait((epoch, event, why))

    def open_gate(self, why: Why, free_bytes: dict[str, int]) -> None:
        """Let a Queued engine start, with *free_bytes* on its devices."""
        self._let_in = free_bytes
        self.tell(GateOpened(), epoch=self._epoch, why=why)

    def status(self) -> shim_status.EngineStatus | None:
        """Return what the shim says of the current run, or of the last one."""
        found = shim_status.read(self._box.run_dir.engine_status(self.name))
        return found if found is not None and found.launch_id == self._launch_id else None

    async def begin(self, event: Event, why: Why) -> None:
        """Take the first event, before `run`: nobody sees the engine in a state from before it."""
        await self._take(event, why)

    async def run(self) -> None:
        """Take events until cancelled."""
        while True:
            epoch, event, why = await self._inbox.get()
            if epoch is None or epoch == self._epoch:
                await self._take(event, why)
            self._undecided -= 1

    def adopt(self, pid: int) -> None:
        """Take over the shim *pid*, which an earlier controller started."""
        self.weights_here = True
        with suppress(OSError, ValueError, KeyError):
            runs = read_launch(self._box.run_dir.launch(self.name))
            self._launch_id = runs.launch_id
            self.launch = replace(self.launch, argv=runs.argv)
        found = self.status()
        if found is not None:
            self.since_s -= age_s(found.shim_start_ticks)
            self.follow_engine(found.pid)
        shim = everything().get(pid)
        self._follow(pid, shim.start_ticks if shim else 0)

    async def _take(self, event: Event, why: Why | None) -> None:
        before = self.state
        after, commands = step(before, event, self._policy)
        if after == before and not commands:
            return
        changed = type(after) is not type(before) or getattr(after, "after", None) != getattr(
            before, "after", None
        )
        self.state = after
        if not after.alive:
            self._take_up()
        if changed:
            if isinstance(after, BackingOff):
                commands = tuple(_spread(command) for command in commands)
            self.routed = False
            self._enter(before, event, why, commands)
            await self._box.state_changed(self)
            self.routed = True
        self._remember(before, event)
        for command in commands:
            await self._carry_out(command)

    def _enter(
        self, before: State, event: Event, why: Why | None, commands: tuple[Command, ...]
    ) -> None:
        took_s = self.phase_s
        self._epoch += 1
        self.since_s = time.monotonic()
        if type(self.state) is not type(before):
            self._disarm()
        said = why or because(before, event, self._policy)
        self.cause = said.cause
        reason = why.text if why else None
        asked_to_end = isinstance(event, Exited) and isinstance(before, Stopping | Killing)
        if isinstance(self.state, Ready | Stopped | Starting):
            self.reason = reason
        elif reason is not None and not (asked_to_end and self.reason):
            self.reason = reason  # how it ended says less than why it was ended
        if isinstance(event, TimerFired) and not (before.moves_memory and self.reason):
            self.reason = timeout_reason(before, self._policy) or self.reason
        if isinstance(self.state, Ready) and isinstance(before, Starting):
            self._box.memory.change(self.name, last_start_s=round(took_s, 1))
        self._record(before, event, said, took_s, commands)

    def _record(
        self, before: State, event: Event, why: Why, took_s: float, commands: tuple[Command, ...]
    ) -> None:
        """Write the decision down: a reason that was given before stands for one that is not."""
        figures = {"after_s": round(took_s, 1), **why.figures}
        if isinstance(self.state, BackingOff | Failed):
            figures |= {"failures": self.state.failures, "limit": self._policy.restart_limit}
            figures["ends_within_hour"] = len(self._box.memory.of(self.name).ends_unix_s)
        if isinstance(self.state, BackingOff):
            delays_s = [
                round(command.delay_s, 2) for command in commands if isinstance(command, Arm)
            ]
            figures |= dict(zip(["next_try_s"], delays_s, strict=False))
        text = why.text or (self.reason if why.cause == "asked" else None)
        self._box.audit.record(
            self._word(event),
            Why(text=text, cause=why.cause, figures=figures),
            model=self.name,
            before=before.name,
            after=self.state.name,
        )

    def _word(self, event: Event) -> str:
        """Return the word for what has just been entered."""
        state = self.state
        if isinstance(state, Failed) and isinstance(event, Exited) and not event.hopeless:
            # An engine on trial has one attempt: that is no loop.
            looping = event.looping or state.failures >= self._policy.restart_limit > 1
            return "crash_loop" if looping else "failed"
        if isinstance(state, Ready) and self._box.memory.of(self.name).troubled:
            return "recovered"
        return entered(state.name)

    def _remember(self, before: State, event: Event) -> None:
        failed = (self.reason or "it failed") if isinstance(self.state, Failed) else None
        fields: dict[str, object] = {"failed": failed, "failures": self.state.failures}
        if isinstance(self.state, BackingOff | Failed | Unready | Ready):
            fields["troubled"] = not isinstance(self.state, Ready)
        if isinstance(before, BackingOff) and isinstance(event, TimerFired):
            fields["restarts"] = self._box.memory.of(self.name).restarts + 1
        if not self._box.stopping:  # only the operator's word outlives the instance
            fields |= self._wish(event)
        self._box.memory.change(self.name, **fields)

    def _wish(self, event: Event) -> dict[str, object]:
        """Return what the operator wants since *event*, for a controller after this one."""
        match event:
            case StopRequested():
                return {"stopped": True, "held": False, "restarting": False}
            case StartRequested():
                return {"stopped": False, "held": False, "restarting": False, "ends_unix_s": ()}
            case RestartRequested():
                return {"stopped": False, "held": False, "restarting": True, "ends_unix_s": ()}
            case DrainRequested():
                return {"stopped": False, "held": True, "restarting": False}
            case GateOpened():
                return {"restarting": False}
            case Exited() if isinstance(self.state, Stopped):
                return {"stopped": True, "held": False}  # it died while it was held
        return {}

    async def _carry_out(self, command: Command) -> None:
        match command:
            case Spawn():
                await self._spawn()
            case Terminate():
                self._signal(signal.SIGTERM)
            case Kill():
                self._signal(signal.SIGINT)
                self._signal(signal.SIGCONT)
            case Arm(delay_s):
                self._arm(delay_s)
            case Disarm():
                self._disarm()

    def _arm(self, delay_s: float, *, put_off: bool = False) -> None:
        self._disarm()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(delay_s, self._timer_fires, self._epoch, put_off)

    def _timer_fires(self, epoch: int, put_off: bool) -> None:  # noqa: FBT001 - a callback
        """Deliver the state's timer; a drain goes on while a neighbour measures its memory.

        The memory that a stop frees would become part of the neighbour's cache: vLLM charges what
        is used after its profiling, less what was used before (utils/mem_utils.py,
        memory_profiling). That start has a limit of its own, start_timeout_s. Once it is over there
        is a moment left, for whoever looks what is in flight to say that nothing is.
        """
        beside = isinstance(self.state, Draining) and self._box.starting_beside(self) is not None
        if beside or put_off:
            self._arm(DRAIN_AGAIN_S, put_off=beside)
        else:
            self.tell(TimerFired(), epoch=epoch)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _spawn(self) -> None:
        self._launch_id = f"{time.time_ns():x}"
        self._kills = oomkills.read()
        self.cache = {}
        if self.launch.port is not None:
            why = await asyncio.to_thread(why_not_bindable, "127.0.0.1", self.launch.port)
            if why is not None:
                text = f"cannot listen on port {self.launch.port}: {why}"
                self.tell(Exited(), why=Why(text=text, cause="port_taken"))
                return
        run_dir = self._box.run_dir
        try:
            self._remove_socket()
            self._write_launch()
            pid = await self._box.start_program(engine_program(self.name))
        except (OSError, KeeperGone, KeeperRefused, KeeperStopping) as error:
            pid = await self._find_program()
            if pid == 0:
                self.tell(Exited(), why=Why(text=f"cannot start: {error}", cause="keeper"))
                return
        self._box.memory.change(self.name, starts=self._box.memory.of(self.name).starts + 1)
        ticks = everything().get(pid)
        if pid == 0 or ticks is None:
            found = shim_status.read(run_dir.engine_status(self.name))
            self._end(found if found and found.launch_id == self._launch_id else None)
            return
        self._follow(pid, ticks.start_ticks)

    async def _find_program(self) -> int:
        """Return the shim's pid if the keeper has started it though it did not say so in time."""
        with suppress(KeeperGone, KeeperStopping, KeeperRefused):
            return await self._box.find_program(engine_program(self.name))
        return 0

    def _remove_socket(self) -> None:
        if self.launch.socket:
            with suppress(OSError):
                Path(self.launch.socket).unlink(missing_ok=True)

    def _write_launch(self) -> None:
        launch = self.launch
        env = dict(launch.env)
        if launch.weights is not None:
            # They are here by now: the engine shall not look for newer ones while it starts.
            env.setdefault("HF_HUB_OFFLINE", "1")
        group = self._box.cgroup / f"engine-{launch.name}" if self._box.cgroup else None
        content = {
            "launch_id": self._launch_id,
            "name": launch.name,
            "argv": launch.argv,
            "env": env,
            "stop_timeout_s": launch.patience.stop_timeout_s,
            "keeper_pid": self._box.keeper_pid,
            "cgroup": str(group) if group else None,
        }
        # Nobody else reads it: the shim is not running yet.
        text = json.dumps(content).encode()
        overwrite_file(self._box.run_dir.launch(launch.name), text)

    def _follow(self, pid: int, start_ticks: int) -> None:
        """Watch the shim's end through a pidfd, which cannot be mistaken for another process."""
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            self._end(self.status())
            return
        if not same(pid, start_ticks):
            os.close(pidfd)
            self._end(self.status())
            return
        self._shim = _Shim(pid, start_ticks, pidfd)
        self._falls_apart = False
        asyncio.get_running_loop().add_reader(pidfd, self._shim_ended)

    def follow_engine(self, pid: int) -> None:
        """Take the engine out of the routes the moment its first process ends.

        Its shim then still ends what it left behind, which may take seconds.
        """
        if pid == 0 or pid == self._engine_pid:
            return
        self._engine_pid = pid
        with suppress(OSError):
            pidfd = os.pidfd_open(pid)
            asyncio.get_running_loop().add_reader(pidfd, self._engine_ended, pidfd, pid)

    def _engine_ended(self, pidfd: int, pid: int) -> None:
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        if pid == self._engine_pid:
            self._falls_apart = True
        if self.state.routable:
            why = Why(text="its process has ended", cause="exit")
            self.tell(ProbeMissed(), epoch=self._epoch, why=why)

    def _shim_ended(self) -> None:
        assert self._shim is not None  # noqa: S101 - for mypy
        asyncio.get_running_loop().remove_reader(self._shim.pidfd)
        os.close(self._shim.pidfd)
        self._shim = None
        self._falls_apart = True
        self._end(self.status())

    def _end(self, found: shim_status.EngineStatus | None) -> None:
        """Deliver the end of the process, after ending what a killed shim left behind."""

        async def deliver() -> None:
            if found is None or found.ended_unix_s is None:
                await self._box.end_strays(_output_of(found))
            self._remove_socket()
            asked = isinstance(self.state, Stopping | Killing | Unkillable)
            if asked:
                again = getattr(self.state, "after", None) is After.BACK_OFF
                self.tell(Exited(looping=again and self._count_end()))
                return
            self.last_error = found.last_error if found else None
            finding = classify(await self._evidence(found))
            ended = Exited(
                hopeless=finding.course == "hopeless",
                excused=finding.course == "excused",
                looping=self._count_end(),
            )
            text = finding.text
            if ended.looping and not ended.hopeless:
                text += f"; {self._policy.hourly_limit} times within an hour (hourly_restart_limit)"
            why = Why(text=text, cause=finding.cause, figures=finding.figures)
            self.tell(ended, why=why)

        task = asyncio.create_task(deliver())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _evidence(self, found: shim_status.EngineStatus | None) -> Ending:
        """Gather what is known of an unasked end: the exit, the log, the kernel, the devices."""
        devices = [device for device in self.launch.gate if device != "cpu"]
        free = await self._box.free_bytes(devices) if devices else {}
        taken = [self._let_in.get(d, 0) - free[d] for d in devices if d in free]
        number = found.exit_signal if found else None
        planned, allocated = self.launch.predicted, found.allocated if found else {}
        return Ending(
            starting=isinstance(self.state, Starting),
            exit_code=found.exit_code if found else None,
            exit_signal=number,
            signal_name=_signal_name(number) if number is not None else "",
            error=found.last_error if found else None,
            shim_killed=found is None or found.ended_unix_s is None,
            oom_killer=oomkills.on_whose_account(self._kills, oomkills.read()),
            driver_answers=len(free) == len(devices),
            taken_bytes=max([0, *taken]),
            missing_cache_bytes=missing_cache_bytes(planned, allocated),
            gained_bytes=0 if self.state.failures else gained_by_compiling(planned, allocated),
        )

    def _count_end(self) -> bool:
        """Remember an unasked end; return whether there are too many of them in the hour."""
        now_s, memory = time.time(), self._box.memory
        ends = (*within_the_hour(memory.of(self.name).ends_unix_s, now_s), round(now_s, 1))
        memory.change(self.name, ends_unix_s=ends)
        return len(ends) >= self._policy.hourly_limit

    def _signal(self, number: signal.Signals) -> None:
        if self._shim is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._shim.pidfd, number)

    def kill_tree(self) -> None:
        """SIGKILL the engine's processes directly, for a shim that does not do it."""
        if self._shim is not None:
            for process in descendants(self._shim.pid, everything()):
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)

    def note(self, reason: str) -> None:
        """Say in `status` what a Queued engine waits for."""
        if isinstance(self.state, Queued):
            self.reason = reason

    def explain(self, reason: str) -> bool:
        """Like `note`, and tell the operator if it is news; return whether it is."""
        if not isinstance(self.state, Queued) or reason == self.reason:
            return False
        news = _without_figures(reason) != _without_figures(self.reason or "")
        self.reason = reason
        if news:
            self._box.audit.record("waiting", Why(text=reason, cause="gate"), model=self.name)
        return news

    def miss_weights(self, reason: str, *, hopeless: bool, epoch: int) -> None:
        """Tell a Queued engine that its weights cannot be had."""
        why = Why(text=reason, cause="weights")
        self.tell(WeightsMissed(hopeless=hopeless), epoch=epoch, why=why)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _output_of(found: shim_status.EngineStatus | None) -> Output | None:
    return Output(found.output_inode, found.shim_start_ticks) if found is not None else None


def _spread(command: Command) -> Command:
    """Engines that failed together are not tried again together."""
    if not isinstance(command, Arm):
        return command
    return Arm(jittered(command.delay_s, random.random()))  # noqa: S311 - nothing to guess


def _without_figures(reason: str) -> str:
    """Return what stays the same while free memory changes from second to second."""
    return re.sub(r"[0-9.]+", "", reason)
