"""The controller's loops: adoption, probing, the gate, the routers, the end.

One asyncio loop, no locks but the one around routing.json; whatever blocks (the keeper, NVML)
runs in a thread with a deadline.
"""

import asyncio
import dataclasses
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from gpuserve import __version__, jsonvalues
from gpuserve.controller import elsewhere, policies, upgrade
from gpuserve.controller.audit import Audit
from gpuserve.controller.cards import Cards
from gpuserve.controller.gatekeeper import Gatekeeper
from gpuserve.controller.house import House
from gpuserve.controller.notify import Notifiers, not_told
from gpuserve.controller.prober import Prober, probe_of
from gpuserve.controller.reload import Proposal, Reloader
from gpuserve.controller.remembered import Memory
from gpuserve.controller.replica import Replica
from gpuserve.controller.routers import Routers
from gpuserve.controller.routes import Routes
from gpuserve.controller.status import memory_status
from gpuserve.controller.xids import Xids
from gpuserve.errors import ExitStatus
from gpuserve.keeperconf import KeptEngine, engine_program, keeper_conf
from gpuserve.lifecycle.audit import Entry, Why
from gpuserve.lifecycle.drift import drift
from gpuserve.lifecycle.states import (
    After,
    DrainEnded,
    Draining,
    EngineFound,
    Failed,
    Hurried,
    Queued,
    Ready,
    RestartRequested,
    Starting,
    StartRequested,
    State,
    Stopped,
    StopRequested,
    Unkillable,
)
from gpuserve.machine import cgroup, families, statedir
from gpuserve.machine.auditlog import AuditLog
from gpuserve.machine.families import Output
from gpuserve.machine.files import overwrite_file, replace_file
from gpuserve.machine.instance import Instance, release
from gpuserve.machine.instance import write as write_instance
from gpuserve.machine.keeper import Keeper, KeeperGone, KeeperRefused, KeeperStopping, KeptProcess
from gpuserve.machine.processes import read
from gpuserve.machine.systemd import notifier
from gpuserve.machine.voice import Voice
from gpuserve.plan import Launch, Plan
from gpuserve.profile.spec import OnEventSpec, Patience
from gpuserve.rundir import RunDir

HEARTBEAT_S = 2.0
DRAIN_LOOK_S = 0.2
END_LOOK_S = 0.05
CLOSE_S = 5.0
PROGRESS_S = 15.0


class Controller:
    """One instance, from its plan to its end."""

    def __init__(self, run_dir: RunDir, plan: Plan, instance: Instance) -> None:
        self.run_dir = run_dir
        self.plan = plan
        self.instance = instance
        self.keeper_pid = instance.keeper_pid
        self.cgroup = cgroup.delegated(dict(os.environ))
        state_dir = statedir.find(run_dir)
        self.audit = Audit(AuditLog(state_dir / statedir.EVENTS), Voice(instance.keeper_pid))
        self._notifiers = Notifiers(str(run_dir.path), self._not_told)
        self.memory = Memory(state_dir / statedir.STATE, instance.identity)
        self.stopping = False
        self._keeper = Keeper(run_dir.keeper_socket)
        self._service = notifier()
        workers = plan.profile.server.workers
        self._routers = Routers(run_dir, range(1, 2 * workers + 1))
        self._routes = Routes(run_dir, self._routers, self.memory, self.audit.say)
        self.unreachable: dict[str, str] = {}  # servers elsewhere, and why
        self._adopted = False
        self._ended = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.replicas: dict[str, Replica] = {}
        self.cards = Cards(self.keeper_pid, self._devices, self.audit)
        self._gate = Gatekeeper(
            self.replicas,
            lambda: Path(self.plan.profile.path),
            self.cards,
            lambda: self._spawn(self.publish()),
        )
        self._loops: dict[str, tuple[asyncio.Task[None], ...]] = {}
        self._replacing_routers = False
        self.reloader = Reloader(self)
        self._house = House(self, self._keeper, self._service, self._routers)

    # ── what replicas ask of us ──────────────────────────────────────────────────────────

    @property
    def faults(self) -> list[str]:
        """What is wrong with the service itself, for people."""
        found = (self.memory.lost, self.memory.fault, self.audit.fault, self.cards.fault)
        return [fault for fault in found if fault]

    def _devices(self) -> set[str]:
        """Return the gate keys of the GPUs that the plan uses."""
        return {key for launch in self.plan.launches for key in launch.gate if key != "cpu"}

    async def find_program(self, program: str) -> int:
        """Return the pid of *program* as the keeper has it, 0 if it does not run."""
        kept = await asyncio.to_thread(self._keeper.processes)
        return kept[program].pid if program in kept else 0

    async def start_program(self, program: str) -> int:
        """Have the keeper start *program*; return its pid."""
        return await asyncio.to_thread(self._keeper.start, program)

    async def stop_program(self, program: str) -> None:
        """Ask *program* to end, for good."""
        await asyncio.to_thread(self._keeper.stop, program)

    def replace_routers(self) -> bool:
        """Begin to replace the routers; return False where that is under way already."""
        if self._replacing_routers:
            return False
        self._replacing_routers = True
        self._spawn(self._replace_routers())
        return True

    async def _replace_routers(self) -> None:
        try:
            await upgrade.replace_routers(self, self._routers, self.plan.profile.server.workers)
        except (KeeperGone, KeeperStopping, KeeperRefused) as error:
            self.audit.record("router_kept", Why(text=str(error), cause="keeper"))
        finally:
            self._replacing_routers = False

    async def state_changed(self, replica: Replica) -> None:
        """Publish the routes, and look at the gate and at drains again."""
        if self._adopted:
            await self.publish()
        self._gate.wake()
        if isinstance(replica.state, Draining):
            self._spawn(self._watch_drain(replica, replica.epoch))
        if isinstance(replica.state, Unkillable):
            replica.kill_tree()
        if isinstance(replica.state, Ready):
            self._judge_memory(replica)
        self.reloader.settled(replica)
        self._tell_service()

    def _judge_memory(self, replica: Replica) -> None:
        """Say once per start what the engine holds otherwise than planned."""
        memory = memory_status(replica)
        why = drift(memory["predicted"], memory["actual"])
        if why is not None and replica.drift != why:
            self.audit.record("memory_drift", why, model=replica.name)
        replica.drift = why

    async def end_strays(self, output: Output | None = None) -> int:
        """End what killed shims left behind, and who writes to *output*; return how many."""
        return await self._house.end_strays(output)

    async def free_bytes(self, devices: Collection[str]) -> dict[str, int]:
        """Return what is free on the GPUs among *devices*, without those that cannot be read."""
        return await self._gate.free_bytes(devices)

    # ── life ─────────────────────────────────────────────────────────────────────────────

    async def run(self, begun: Callable[[], Awaitable[None]]) -> int:
        """Carry the plan out until told to end; return the exit status.

        *begun* is awaited once every engine has a state that can be told.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: self._spawn(self.told_to_end()))
        self._notifiers.use(self.plan.profile.on_event)
        self.audit.listen(self._notifiers.take)
        self.audit.record("controller_started", self._begin_why())
        if self.memory.lost is not None:
            self.audit.record("state_lost", Why(text=self.memory.lost, cause="disk"))
        kept = await self._keeper_processes()
        await self._house.start_routers(kept)
        made = [self._adopt_or_make(launch, kept) for launch in self.plan.launches]
        for replica in await asyncio.gather(*made):
            self._run_engine(replica)
        self._adopted = True
        await begun()
        await self.publish()
        self._service.say("READY=1")
        self._tell_service()
        await self.end_strays()
        for task in (
            *(self._beat(), self._gate.run(), self._house.run()),
            *(self._tell_progress(), self._watch_elsewhere(), self.cards.run()),
        ):
            self._spawn(task)
        if self._devices():
            self._spawn(Xids(self.cards, self.audit).run())
        await self._ended.wait()
        await self._close()
        return 0

    def _not_told(self, spec: OnEventSpec, entry: Entry, why: str, attempts: int) -> None:
        self.audit.record("not_told", not_told(spec, entry, why, attempts), model=entry.model)

    def _begin_why(self) -> Why:
        age_s = time.time() - self.instance.started_unix_s
        figures: dict[str, float | int | str] = {
            "version": __version__,
            "pid": os.getpid(),
            "models": len(self.plan.launches),
            "instance_age_s": round(age_s, 1),
        }
        return Why(text=f"profile {self.plan.profile.path}", figures=figures)

    async def _close(self) -> None:
        """End every loop and connection; signals are ignored from here on, the end has begun."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)
        await self._notifiers.close()
        for running in self._tasks:
            running.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_S)

    async def _keeper_processes(self) -> dict[str, KeptProcess]:
        """Return the keeper's processes; it has just started us, so it will answer."""
        for _ in range(100):
            with suppress(KeeperGone):
                return await asyncio.to_thread(self._keeper.processes)
            await asyncio.sleep(0.1)
        raise KeeperGone(f"the keeper does not answer on {self.run_dir.keeper_socket}")

    async def _adopt_or_make(self, launch: Launch, kept: dict[str, KeptProcess]) -> Replica:
        """Return the replica of *launch*: adopted if its shim runs, else about to start."""
        name, remembered = launch.name, self.memory.of(launch.name)
        process = kept.get(engine_program(name))
        policy = policies.policy_of(launch.patience)
        if self.reloader.on_trial(name):
            policy = policies.on_trial(policy)
        if process is None or process.pid == 0:
            state: State = Stopped()
            if remembered.failed is not None:
                state = Failed(remembered.failures)
            replica = Replica(launch, policy, self, state)
            replica.reason = remembered.failed
            if remembered.stopped:
                why = Why(text="stays stopped, as the operator left it", cause="operator")
                self.audit.record("stopped", why, model=name, after=state.name)
            elif isinstance(state, Stopped):
                await replica.begin(StartRequested(), Why(cause="profile"))
            return replica
        healthy = await _is_healthy(launch)
        state = Stopped()
        if healthy:
            state = Draining(0, After.HOLD) if remembered.held else Ready(remembered.failures)
        replica = Replica(launch, policy, self, state)
        replica.reason = "drained" if remembered.held else None
        replica.adopt(process.pid)
        if not healthy:
            await replica.begin(EngineFound(), Why(cause="adoption"))
        why = Why(cause="adoption", figures={"shim_pid": process.pid})
        self.audit.record("adopted", why, model=name, after=replica.state.name)
        asked_before = Why(text="as the operator asked before", cause="operator")
        if remembered.stopped:
            replica.tell(StopRequested(), why=asked_before)
        elif remembered.restarting:
            replica.tell(RestartRequested(), why=asked_before)
        return replica

    def _run_engine(self, replica: Replica) -> None:
        self.replicas[replica.name] = replica
        prober = Prober(replica, self._routers, self)
        self._loops[replica.name] = (self._spawn(replica.run()), self._spawn(prober.run()))

    # ── what a reload asks of us ─────────────────────────────────────────────────────────

    def put_in_force(self, plan: Plan) -> None:
        """Make *plan* the one that counts, also for a later controller; raises OSError."""
        replace_file(self.run_dir.plan, jsonvalues.dumps(plan))
        self.plan = plan
        self._notifiers.use(plan.profile.on_event)
        if self.instance.profile != plan.profile.path:
            self.instance = dataclasses.replace(self.instance, profile=plan.profile.path)
            write_instance(self.run_dir, self.instance)

    async def keep_engines(self, launches: tuple[Launch, ...]) -> None:
        """Have the keeper know a program for each of *launches*; raises what Keeper raises."""
        engines = [KeptEngine(launch.name, launch.patience) for launch in launches]
        conf = keeper_conf(self.run_dir, sys.executable, self.plan.profile.server, engines)
        replace_file(self.run_dir.keeper_conf, conf.encode())
        names = [engine_program(launch.name) for launch in launches]
        await asyncio.to_thread(self._keeper.keep, names)

    async def forget_engine(self, name: str) -> None:
        """Have nobody know the engine *name*, which has ended, any more."""
        for task in self._loops.pop(name, ()):
            task.cancel()
        self.replicas.pop(name, None)
        self.memory.forget(name)
        self.run_dir.launch(name).unlink(missing_ok=True)
        with suppress(KeeperGone, KeeperStopping, KeeperRefused):
            await asyncio.to_thread(self._keeper.forget, engine_program(name))

    def add_engine(self, launch: Launch) -> Replica:
        """Return the replica of a new engine, Stopped."""
        replica = Replica(launch, policies.policy_of(launch.patience), self, Stopped())
        self._run_engine(replica)
        return replica

    def reload(self, proposal: Proposal) -> None:
        """Put *proposal*, which was accepted, in force; returns at once."""
        self._spawn(self._reload(proposal))

    async def _reload(self, proposal: Proposal) -> None:
        try:
            await self.reloader.apply(proposal)
        except (KeeperGone, KeeperStopping, KeeperRefused, OSError) as error:
            self.reloader.fail(str(error))
        finally:
            self.reloader.busy = False
            self._tell_service()

    async def told_to_end(self) -> None:
        """SIGTERM: the box is stopping, the keeper has died, or we are only being replaced."""
        if os.getppid() != self.keeper_pid:
            self.audit.record("keeper_lost", Why(text="the keeper is gone: ending every engine"))
            await self.end(hurry=True)
            families.end(self._house.family())
            release(self.run_dir, self.instance.identity)
            return
        try:
            stopping = await asyncio.to_thread(self._keeper.is_stopping)
        except KeeperGone:
            stopping = os.getppid() != self.keeper_pid
        if stopping:
            await self.end(hurry=False)
        else:
            self._ended.set()  # replaced: engines and routers go on

    def begin_shut_down(self, hurry: bool) -> None:  # noqa: FBT001 - a callback
        """Have `shut_down` run."""
        self._spawn(self.shut_down(hurry=hurry))

    async def shut_down(self, *, hurry: bool) -> None:
        """End every engine, then the keeper with everything that it keeps."""
        await self._end_engines(hurry=hurry)
        try:
            await asyncio.to_thread(self._keeper.shut_down)
        except KeeperGone:
            # It hangs, or somebody has stopped it: it finds these when it goes on.
            for number in (signal.SIGTERM, signal.SIGCONT):
                with suppress(ProcessLookupError):
                    os.kill(self.keeper_pid, number)
        except KeeperStopping:
            pass
        self._ended.set()

    async def end(self, *, hurry: bool) -> None:
        """End every engine, then this controller."""
        await self._end_engines(hurry=hurry)
        self._ended.set()

    async def _end_engines(self, *, hurry: bool) -> None:
        """Stop admitting, drain, stop the engines all at once, and clean the run directory."""
        if not self.stopping:
            self.stopping = True
            how = "at once" if hurry else "draining, then ending every engine"
            self.audit.record("stopping", Why(text=how, cause="shutdown"))
            self._service.say("STOPPING=1", "STATUS=draining and stopping")
            await self.publish()
        for replica in self.replicas.values():
            why = Why(text="gpuserve is stopping", cause="shutdown")
            replica.tell(Hurried() if hurry else StopRequested(), why=why)
        drained = asyncio.create_task(self._drain_upstreams(hurry=hurry))
        while any(_is_ending(replica) for replica in self.replicas.values()):
            await asyncio.sleep(END_LOOK_S)
        await drained
        await self.end_strays()
        self.audit.record("ended", Why(text="every engine has ended", cause="shutdown"))

    async def _drain_upstreams(self, *, hurry: bool) -> None:
        """Wait for what is in flight to servers that are not ours, as long as for an engine."""
        patience = [launch.patience for launch in self.plan.launches] or [Patience()]
        names = {upstream.name for upstream in self.plan.profile.upstreams}
        if hurry or not names:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(max(p.drain_timeout_s for p in patience)):
                while await self._in_flight(names) != 0:
                    await asyncio.sleep(DRAIN_LOOK_S)

    async def _in_flight(self, names: Collection[str]) -> int | None:
        """Return how many requests are in flight to *names*, None if a router does not answer."""
        tallies = await self._routers.tallies()
        if tallies is None:
            return None
        return sum(tallies[name].in_flight for name in names if name in tallies)

    # ── loops ────────────────────────────────────────────────────────────────────────────

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        """A loop that fails ends the controller: the keeper starts a new one, which adopts."""
        self._tasks.discard(task)
        if task.cancelled() or task.exception() is None:
            return
        fault = task.exception()
        logging.getLogger("gpuserve.controller").error("the controller fails", exc_info=fault)
        os._exit(ExitStatus.SOFTWARE)

    async def _beat(self) -> None:
        own = read(os.getpid())
        while True:
            beat = {
                "pid": os.getpid(),
                "start_ticks": own.start_ticks if own else 0,
                "at_s": time.monotonic(),
            }
            with suppress(OSError):  # without a heartbeat nobody is killed for its age
                overwrite_file(self.run_dir.heartbeat, json.dumps(beat).encode())
            await asyncio.sleep(HEARTBEAT_S)

    async def _watch_drain(self, replica: Replica, epoch: int) -> None:
        """Say when nothing is in flight; hold back while a neighbour starts.

        A planned stop frees memory, which aborts a neighbour's start on the same device
        (vllm-project/vllm#56830) or becomes part of its cache. The drain's own timer waits too.
        """
        while replica.epoch == epoch:
            flying = await self._in_flight((replica.name,))
            neighbour = self.starting_beside(replica)
            if flying == 0 and neighbour is None:
                replica.reason = "drained" if _held(replica.state) else None
                replica.tell(DrainEnded(), epoch=epoch)
                return
            replica.reason = _drain_reason(flying, neighbour)
            await asyncio.sleep(DRAIN_LOOK_S)

    def starting_beside(self, replica: Replica) -> str | None:
        """Return who starts on a device of *replica* and measures its memory, None if nobody.

        Nobody does for one that is only to be held, nor where everything is being stopped.
        """
        if self.stopping or _held(replica.state):
            return None
        devices = set(replica.launch.gate)
        return next(
            (
                other.name
                for other in self.replicas.values()
                if other is not replica
                and isinstance(other.state, Starting)
                and devices & set(other.launch.gate)
            ),
            None,
        )

    async def _watch_elsewhere(self) -> None:
        """Take servers that are not ours out of the routes while they cannot be reached."""
        looking = elsewhere.Elsewhere()
        while True:
            upstreams = self.plan.profile.upstreams
            before, self.unreachable = self.unreachable, await looking.unreachable(upstreams)
            for name in before.keys() ^ self.unreachable.keys():
                why = self.unreachable.get(name)
                event = "upstream_lost" if why else "upstream_back"
                self.audit.record(event, Why(text=why, cause="connection"), model=name)
            if self._routes.reach(self.unreachable):
                await self.publish()
            await asyncio.sleep(elsewhere.LOOK_S)

    async def _tell_progress(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_S)
            for replica in self.replicas.values():
                line = progress_line(replica, self.memory.of(replica.name).last_start_s)
                if line:
                    self.audit.say(line)

    async def publish(self) -> None:
        """Make what can be routed to known to the routers."""
        await self._routes.publish(self.plan, self.replicas, stopping=self.stopping)

    def _tell_service(self) -> None:
        words = ", ".join(f"{r.name} {r.state.name}" for r in self.replicas.values())
        self._service.say(f"STATUS={words}")


async def _is_healthy(launch: Launch) -> bool:
    probe = probe_of(launch)
    try:
        return (await probe.read()).health == "ok"
    finally:
        await probe.close()


def _is_ending(replica: Replica) -> bool:
    """Whether the end of *replica* is still to come; nobody can wait for an Unkillable one."""
    return replica.busy or (replica.state.alive and not isinstance(replica.state, Unkillable))


def progress_line(replica: Replica, last_start_s: float | None) -> str | None:
    """Return what an engine that is not ready yet is doing, or None if it is not on its way."""
    if isinstance(replica.state, Starting):
        found = replica.status()
        phase = found.phase if found else "starting the process"
        last = f", last time {last_start_s:.0f} s" if last_start_s else ""
        return f"{replica.name}: {phase} ({replica.phase_s:.0f} s{last})"
    if isinstance(replica.state, Queued) and replica.reason:
        return f"{replica.name}: {replica.reason} ({replica.phase_s:.0f} s)"
    return None


def _drain_reason(flying: int | None, neighbour: str | None) -> str:
    if flying is None:
        return "a router is too busy to say what is in flight"
    if flying:
        return f"{flying} requests in flight"
    return f"its memory may not come free before {neighbour} has started"


def _held(state: State) -> bool:
    return isinstance(state, Draining) and state.after is After.HOLD
