"""Puts a new profile in force while the instance runs: only what it changes is touched.

Engines that it changes are replaced one after the other, those that shrink first, so that their
memory is there for those that grow; each drains first. One that does not start with its new
settings gets its old ones back.
"""

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from gpuserve import jsonvalues
from gpuserve.controller import policies
from gpuserve.controller.audit import Audit
from gpuserve.controller.remembered import Memory
from gpuserve.controller.replica import Replica
from gpuserve.controller.weights import fetch
from gpuserve.errors import ExitStatus, Problem
from gpuserve.lifecycle.audit import Why
from gpuserve.lifecycle.states import (
    After,
    BackingOff,
    Draining,
    Failed,
    Queued,
    Ready,
    RestartRequested,
    StartRequested,
    Stopped,
    StopRequested,
    Unkillable,
)
from gpuserve.machine.files import replace_file
from gpuserve.machine.kernel import die_with_parent
from gpuserve.plan import Launch, Plan
from gpuserve.plandiff import PlanDiff, compare, with_engine_of
from gpuserve.rundir import RunDir

# Reading a profile, the machine and the hub's word on its models.
CHECK_S = 170.0
LOOK_S = 0.1


class Box(Protocol):
    """What a reload needs of the controller around it."""

    run_dir: RunDir
    plan: Plan
    memory: Memory
    audit: Audit
    replicas: dict[str, Replica]
    stopping: bool

    def put_in_force(self, plan: Plan) -> None:
        """Make *plan* the one that counts, also for a later controller; raises OSError."""

    async def publish(self) -> None:
        """Make what can be routed to known to the routers."""

    async def keep_engines(self, launches: tuple[Launch, ...]) -> None:
        """Have the keeper know a program for each of *launches*; raises what Keeper raises."""

    async def forget_engine(self, name: str) -> None:
        """Have nobody know the engine *name*, which has ended, any more."""

    def add_engine(self, launch: Launch) -> Replica:
        """Return the replica of a new engine, Stopped."""

    def starting_beside(self, replica: Replica) -> str | None:
        """Return who starts on a device of *replica* and measures its memory, None if nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A profile that was checked. `plan` is None where it is refused; `problems` say why."""

    profile: str
    exit_status: int
    problems: tuple[Problem, ...]
    plan: Plan | None = None
    diff: PlanDiff | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Previous:
    """The plan before the last one, for the engines that have not started since: previous.json."""

    names: tuple[str, ...]
    plan: Plan


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a reload is. `models` says of each that it touches what has become of it."""

    number: int
    profile: str
    state: str = "applying"  # then "done", or "failed" where a model has not got its new settings
    since_s: float = field(default_factory=time.monotonic)
    models: dict[str, str] = field(default_factory=dict)


class Reloader:
    """The reloads of one instance, one at a time."""

    def __init__(self, box: Box) -> None:
        self._box = box
        self._number = 0
        self._previous: Previous | None = None
        self.progress: Progress | None = None
        self.busy = False
        with suppress(OSError, ValueError):
            self._previous = jsonvalues.loads(Previous, box.run_dir.previous.read_bytes())

    def on_trial(self, name: str) -> bool:
        """Whether the engine *name* has new settings with which it was not ready yet."""
        return self._previous is not None and name in self._previous.names

    async def check(self, profile: Path) -> Proposal:
        """Return what putting *profile* in force would do; changes nothing."""
        found = await _propose(self._box.run_dir, profile)
        if found.plan is None or found.exit_status != ExitStatus.DONE:
            return replace(found, plan=None)
        diff = compare(self._box.plan, found.plan)
        if not diff.restart:
            return replace(found, diff=diff)
        problem = Problem(
            message=f"{'; '.join(diff.restart)}: this needs a full restart",
            hint="`gpuserve down` and `gpuserve up`, or `systemctl restart gpuserve`; or put the "
            "old value back to reload the rest",
        )
        problems = (*found.problems, problem)
        return replace(found, plan=None, diff=diff, exit_status=ExitStatus.NO, problems=problems)

    def refuse(self, proposal: Proposal) -> None:
        """Write down that *proposal* changes nothing, and why."""
        grave = [p for p in proposal.problems if not p.warning] or list(proposal.problems)
        text = grave[0].message if grave else "it does not fit"
        figures = {"exit_status": proposal.exit_status, "problems": len(grave)}
        why = Why(text=f"{proposal.profile}: {text}", cause="profile", figures=figures)
        self._box.audit.record("reload_refused", why)

    async def apply(self, proposal: Proposal) -> None:
        """Put *proposal*, which was accepted, in force; returns once every engine has settled."""
        assert proposal.plan is not None  # noqa: S101 - for mypy
        assert proposal.diff is not None  # noqa: S101
        new, diff, box = proposal.plan, proposal.diff, self._box
        assert self.progress is not None  # noqa: S101
        told = self.progress.models
        new, changed = await self._with_weights(new, [change.name for change in diff.changed])
        old = box.plan
        gone = tuple(launch for launch in old.launches if launch.name in diff.removed)
        await box.keep_engines((*new.launches, *gone))
        on_trial = tuple(name for name in changed if _serves(box.replicas[name]))
        self._remember(Previous(names=on_trial, plan=old))
        for name in changed:
            if box.replicas[name].state.wanted:
                # Should this controller be replaced meanwhile, the next one goes on with it.
                box.memory.change(name, restarting=True)
        try:
            box.put_in_force(new)
        except OSError:
            for name in changed:
                box.memory.change(name, restarting=False)
            self._remember(Previous(names=(), plan=old))
            raise
        for launch in new.launches:
            if launch.name in box.replicas:
                self._expect(box.replicas[launch.name], launch)
        added = [box.add_engine(_launch(new, name)) for name in diff.added]
        leaving = [box.replicas[name] for name in diff.removed]
        await box.publish()
        for replica in leaving:
            told[replica.name] = "draining, then removed"
            why = Why(text="the profile does not name it any more", cause="reload")
            replica.tell(StopRequested(), why=why)
        removing = asyncio.gather(*(self._remove(replica) for replica in leaving))
        for name in sorted(changed, key=lambda name: _grows(name, old, new)):
            await self._replace(box.replicas[name])
        for replica in () if box.stopping else added:
            told[replica.name] = "starting"
            replica.tell(StartRequested(), why=Why(text="new in the profile", cause="reload"))
        await removing
        if gone:
            await box.keep_engines(box.plan.launches)
        for replica in [*added, *(box.replicas[name] for name in changed)]:
            await self._settled(replica, also_queued=False)
        self._tell_end(diff)

    def begin(self, proposal: Proposal) -> Progress:
        """Note that *proposal* is being put in force."""
        self._number += 1
        self.progress = Progress(number=self._number, profile=proposal.profile)
        return self.progress

    def fail(self, why: str) -> None:
        """Note that the reload has ended before its end."""
        if self.progress is not None:
            self.progress.state = "failed"
            self.progress.models["gpuserve"] = why
        self._box.audit.record("reload_refused", Why(text=why, cause="keeper"))

    def settled(self, replica: Replica) -> None:
        """Take note of a state that an engine on trial has reached."""
        if self._previous is None or not self.on_trial(replica.name):
            return
        if isinstance(replica.state, Ready) and not replica.outdated:
            self._forget(replica.name)
            launch = replica.next_launch
            replica.expect(launch, policies.policy_of(launch.patience))
        elif isinstance(replica.state, Failed):
            self._roll_back(replica, self._previous.plan)

    def _roll_back(self, replica: Replica, old: Plan) -> None:
        name, reason = replica.name, replica.reason or "it did not start"
        self._forget(name)
        with suppress(OSError):  # a later controller then tries the new settings once more
            self._box.put_in_force(with_engine_of(self._box.plan, old, name))
        launch = _launch(self._box.plan, name)
        replica.expect(launch, policies.policy_of(launch.patience))
        why = Why(text=reason, cause=replica.cause)
        self._box.audit.record("rolled_back", why, model=name)
        if self.progress is not None:
            self.progress.models[name] = f"rolled back: {reason}"
        why = Why(text="with its settings from before the reload", cause="reload")
        replica.tell(StartRequested(), why=why)

    def _expect(self, replica: Replica, launch: Launch) -> None:
        policy = policies.policy_of(launch.patience)
        if self.on_trial(replica.name):
            policy = policies.on_trial(policy)
        replica.expect(launch, policy)

    async def _with_weights(self, new: Plan, changed: list[str]) -> tuple[Plan, list[str]]:
        """Fetch what the changed engines need while the old ones serve.

        Return the plan without the engines whose weights cannot be had, and the names of the rest.
        """
        from gpuserve.machine.hub import weights_here

        done = []
        assert self.progress is not None  # noqa: S101 - for mypy
        told = self.progress.models
        for name in changed:
            launch = _launch(new, name)
            told[name] = "waits for its turn"
            repo = launch.weights
            if repo is not None and not await asyncio.to_thread(
                weights_here, repo, launch.revision
            ):
                told[name] = f"fetching the weights of {repo}"
                progress = _Teller(told, name)
                fetched = await fetch(Path(new.profile.path), name, progress)
                if fetched.reason is not None:
                    told[name] = f"not changed: {fetched.reason}"
                    why = Why(text=fetched.reason, cause="weights")
                    self._box.audit.record("rolled_back", why, model=name)
                    new = with_engine_of(new, self._box.plan, name)
                    continue
            done.append(name)
        return new, done

    async def _replace(self, replica: Replica) -> None:
        """Have one changed engine take its new settings; return when the next may follow."""
        assert self.progress is not None  # noqa: S101 - for mypy
        told = self.progress.models
        if not isinstance(replica.state, Stopped):
            await self._give_way(replica)
        if not replica.wanted or self._box.stopping:
            told[replica.name] = "Stopped, as the operator left it"
            return
        told[replica.name] = "being replaced"
        why = Why(text="the profile has other settings for it", cause="reload")
        tried = isinstance(replica.state, Failed | BackingOff)
        replica.tell(StartRequested() if tried else RestartRequested(), why=why)
        await self._settled(replica, also_queued=True)

    async def _give_way(self, replica: Replica) -> None:
        """Wait until nobody measures memory beside an engine that serves, and keep it serving.

        No other start begins there meanwhile, so that its turn comes.
        """
        assert self.progress is not None  # noqa: S101 - for mypy
        replica.gives_way = True
        try:
            while isinstance(replica.state, Ready) and not self._box.stopping:
                neighbour = self._box.starting_beside(replica)
                if neighbour is None:
                    break
                self.progress.models[replica.name] = f"serves until {neighbour} has started"
                await asyncio.sleep(LOOK_S)
        finally:
            replica.gives_way = False

    async def _settled(self, replica: Replica, *, also_queued: bool) -> None:
        """Wait until an engine is ready or given up; with *also_queued*, or waits for memory."""
        assert self.progress is not None  # noqa: S101 - for mypy
        told = self.progress.models
        while replica.busy or not _has_settled(replica, also_queued=also_queued):
            await asyncio.sleep(LOOK_S)
        if isinstance(replica.state, Stopped | Draining) and self.on_trial(replica.name):
            self._forget(replica.name)  # the operator has something else in mind
        if "rolled back" not in told.get(replica.name, ""):
            why = f": {replica.reason}" if replica.reason else ""
            told[replica.name] = replica.state.name + why

    async def _remove(self, replica: Replica) -> None:
        assert self.progress is not None  # noqa: S101 - for mypy
        while replica.busy or not isinstance(replica.state, Stopped):
            if isinstance(replica.state, Unkillable):
                self.progress.models[replica.name] = f"Unkillable: {replica.reason}"
                return
            await asyncio.sleep(LOOK_S)
        await self._box.forget_engine(replica.name)
        self._box.audit.record("removed", Why(cause="reload"), model=replica.name)
        self.progress.models[replica.name] = "removed"

    def _tell_end(self, diff: PlanDiff) -> None:
        assert self.progress is not None  # noqa: S101 - for mypy
        models = self.progress.models
        good = ("Ready", "Stopped", "removed")
        bad = [name for name, words in models.items() if not words.startswith(good)]
        self.progress.state = "failed" if bad else "done"
        figures = {
            "added": len(diff.added),
            "removed": len(diff.removed),
            "changed": len(diff.changed),
            "untouched": len(diff.untouched),
            "after_s": round(time.monotonic() - self.progress.since_s, 1),
        }
        text = self.progress.profile + (f"; not as wanted: {', '.join(bad)}" if bad else "")
        self._box.audit.record("reloaded", Why(text=text, cause="reload", figures=figures))

    def _forget(self, name: str) -> None:
        assert self._previous is not None  # noqa: S101 - for mypy
        names = tuple(other for other in self._previous.names if other != name)
        self._remember(replace(self._previous, names=names))

    def _remember(self, previous: Previous) -> None:
        self._previous = previous if previous.names else None
        path = self._box.run_dir.previous
        with suppress(OSError):
            if previous.names:
                replace_file(path, jsonvalues.dumps(previous))
            else:
                path.unlink(missing_ok=True)


class _Teller:
    """Takes the progress of a fetch."""

    def __init__(self, told: dict[str, str], name: str) -> None:
        self._told = told
        self._name = name

    def __call__(self, text: str) -> None:
        self._told[self._name] = text


def _serves(replica: Replica) -> bool:
    """Whether an engine has shown that it works as it is: only then there is a way back."""
    return replica.state.wanted and not isinstance(replica.state, Failed | BackingOff)


def _has_settled(replica: Replica, *, also_queued: bool) -> bool:
    """Whether nothing more is to come; with *also_queued* for as long as memory is short."""
    state = replica.state
    if replica.outdated:
        return False
    if isinstance(state, Draining):
        return state.after is After.HOLD
    if isinstance(state, Queued):
        return also_queued and "memory on" in (replica.reason or "")
    return isinstance(state, Ready | Failed | Stopped)


def _grows(name: str, old: Plan, new: Plan) -> int:
    return _launch(new, name).reserved_bytes - _launch(old, name).reserved_bytes


def _launch(plan: Plan, name: str) -> Launch:
    return next(launch for launch in plan.launches if launch.name == name)


def _answer(status: int | None, output: bytes, said: bytes) -> Any:
    """Return what a check has found; raises ValueError with how it ended if it has not."""
    if status == 0:
        return json.loads(output)
    lines = said.decode(errors="replace").strip().splitlines()
    raise ValueError(f"it ended with status {status}" + (f": {lines[-1]}" if lines else ""))


async def _propose(run_dir: RunDir, profile: Path) -> Proposal:
    """Check *profile* in a process of its own; a check that hangs or dies refuses it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "gpuserve.daemon.propose", str(run_dir.path), str(profile)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(os.environ),
        preexec_fn=lambda: die_with_parent(signal.SIGKILL),
    )
    try:
        async with asyncio.timeout(CHECK_S):
            output, said = await process.communicate()
        found = _answer(process.returncode, output, said)
        problems = jsonvalues.build(tuple[Problem, ...], found["problems"])
        plan = jsonvalues.build(Plan | None, found["plan"])
        status = int(found["exit_status"])
    except (TimeoutError, ValueError, KeyError, TypeError) as error:
        why = f"no end after {CHECK_S:.0f} s" if isinstance(error, TimeoutError) else str(error)
        problem = Problem(message=f"the check of the profile failed: {why}")
        return Proposal(profile=str(profile), exit_status=ExitStatus.SOFTWARE, problems=(problem,))
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return Proposal(profile=str(profile), exit_status=status, problems=problems, plan=plan)
