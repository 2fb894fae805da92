"""Random faults and commands on an instance under constant traffic; invariants all the time.

What `scripts/chaos` runs. The engines are the tests' stand-ins with vLLM's process tree and a
stand-in for two GPUs, so it runs anywhere, and a run can be repeated with its seed: the same
actions in the same order, though not at the same microsecond.

Exit status 0 if every invariant held, 1 with the evidence if not.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpuserve.machine.control import Control, ControllerSilent
from gpuserve.rundir import RunDir
from scripts.invariants import Invariants, Seen, look
from scripts.leftovers import Traces
from scripts.traffic import Outcome, Traffic
from tests.faults.stand_in.fake_device import Device
from tests.integration.instance.box import Box, make_box

MODELS = ("alpha", "beta", "gamma")
TREE = {"core_obeys": True, "worker": True, "watch_core": True}
POLICY = {
    "device": "auto",
    "start_timeout_s": 15.0,
    "drain_timeout_s": 3.0,
    "stop_timeout_s": 2.0,
    "liveness_timeout_s": 4.0,
    "restart_backoff_s": 0.1,
    "restart_limit": 8,
}
LOOK_S = 0.5
COMMAND_S = 90.0
CONVERGE_S = 90.0
# A process that dies has no command line any more, but its connections for a moment yet.
DYING_S = 1.0
# 0 done, 1 the answer is no (a model is not ready, a drain of what is stopped), 3 nothing runs,
# 69 the controller does not answer now, 75 a reload that fits but not while something that was
# killed still holds memory. All of them are honest; 70 and a traceback are not.
HONEST_STATUS = (0, 1, 3, 69, 75)


@dataclass
class Chaos:
    """One run."""

    box: Box
    device: Device
    rng: random.Random
    say: Callable[[str], None]
    began_s: float = field(default_factory=time.monotonic)
    actions: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    # When connections may end or be refused: pairs of begin and end, None while it lasts.
    router_faults: list[list[float | None]] = field(default_factory=list)
    outages: list[list[float | None]] = field(default_factory=list)
    commands: set[asyncio.Task[None]] = field(default_factory=set)
    faulty: bool = True
    down: bool = False

    def __post_init__(self) -> None:
        self.run_dir = RunDir(self.box.instance.run_dir)
        self.control = Control(self.run_dir)
        self.invariants = Invariants(self.run_dir)
        self.reloads = "reload" in self.box.instance.gpuserve("--help").stdout

    # ── what is done to it ───────────────────────────────────────────────────────────────

    def menu(self) -> dict[str, tuple[float, Callable[[], Awaitable[str | None]]]]:
        """Return each action with its weight; it returns what it did, None if it could not."""
        return {
            "kill shim": (3, lambda: self._signal("shim", signal.SIGKILL)),
            "kill server": (3, lambda: self._signal("server", signal.SIGKILL)),
            "kill core": (3, lambda: self._signal("core", signal.SIGKILL)),
            "kill worker": (1, lambda: self._signal("worker", signal.SIGKILL)),
            "kill several of an engine": (3, self._kill_several),
            "terminate server": (1, lambda: self._signal("server", signal.SIGTERM)),
            "pause server": (2, lambda: self._pause("server", 2.0)),
            "pause shim": (1, lambda: self._pause("shim", 2.0)),
            "kill controller": (4, lambda: self._signal("controller", signal.SIGKILL)),
            "replace controller": (2, lambda: self._signal("controller", signal.SIGTERM)),
            "hang controller": (0.4, lambda: self._signal("controller", signal.SIGSTOP)),
            "pause controller": (2, lambda: self._pause("controller", 4.0)),
            "kill watch": (1, lambda: self._signal("watch", signal.SIGKILL)),
            "kill router": (2, lambda: self._on_router(signal.SIGKILL)),
            "hang router": (0.3, lambda: self._on_router(signal.SIGSTOP)),
            "pause keeper": (1, lambda: self._pause("keeper", 3.0)),
            "kill keeper": (0.5, self._kill_keeper),
            "kill all at once": (0.5, self._kill_all),
            "wedge": (1, lambda: self._next_start(wedge_after_requests=3)),
            "die of requests": (1, lambda: self._next_start(die_after_requests=5, die_with=0)),
            "fail to start": (1, lambda: self._next_start(start_exit=1)),
            "lose SIGTERM": (1, lambda: self._next_start(lose_sigterm=True, load_s=2.0)),
            "flood": (0.5, lambda: self._next_start(flood=20_000, long_line_bytes=1 << 20)),
            "restart": (4, lambda: self._command("restart", self._model(), "--no-wait")),
            "stop": (3, lambda: self._command("stop", self._model(), "--no-wait")),
            "start": (6, lambda: self._command("start", self._model(), "--no-wait")),
            "drain": (2, lambda: self._command("drain", self._model(), "--no-wait")),
            "status": (1, lambda: self._command("status", "--json")),
            "reload": (3 if self.reloads else 0, self._reload),
            "down and up": (0.7, self._down_and_up),
            "down --now and up": (0.5, lambda: self._down_and_up("--now")),
        }

    def _model(self) -> str:
        return self.rng.choice(MODELS)

    async def _look(self) -> dict[int, Seen]:
        return await asyncio.to_thread(look, self.run_dir)

    async def _one(self, role: str) -> Seen | None:
        """Return one process of that role, the same one for the same seed where all run."""
        model = self._model() if role in ("shim", "server", "core", "worker") else None
        found = [
            s for s in (await self._look()).values() if s.role == role and model in (None, s.model)
        ]
        return min(found, key=lambda seen: seen.pid, default=None)

    async def _signal(self, role: str, number: signal.Signals) -> str | None:
        seen = await self._one(role)
        if seen is None or not _send(seen.pid, number):
            return None
        return f"{seen.role} {seen.model or ''} (pid {seen.pid})"

    async def _pause(self, role: str, most_s: float) -> str | None:
        pause_s = self.rng.uniform(0.2, most_s)
        seen = await self._one(role)
        if seen is None or not _send(seen.pid, signal.SIGSTOP):
            return None
        await asyncio.sleep(pause_s)
        _send(seen.pid, signal.SIGCONT)
        return f"{seen.role} {seen.model or ''} (pid {seen.pid}) for {pause_s:.1f} s"

    async def _kill_several(self) -> str | None:
        model = self._model()
        roles = self.rng.sample(("shim", "server", "core", "worker", "controller"), 3)
        table = await self._look()
        for role in roles:
            for seen in table.values():
                if seen.role == role and seen.model in (model, None):
                    _send(seen.pid, signal.SIGKILL)
        return f"{' then '.join(roles)} of {model}"

    async def _on_router(self, number: signal.Signals) -> str | None:
        """A router that dies takes its connections along; nobody else may lose one."""
        seen = await self._router()
        if seen is None:
            return None
        window: list[float | None] = [time.monotonic(), None]
        self.router_faults.append(window)
        if not _send(seen.pid, number):
            window[1] = window[0]
            return None
        task = asyncio.create_task(self._until_replaced(seen, window))
        self.commands.add(task)
        task.add_done_callback(self.commands.discard)
        return f"router (pid {seen.pid})"

    async def _router(self) -> Seen | None:
        """Return a router that serves; the holder of the socket is the first that was started."""
        found = [s for s in (await self._look()).values() if s.role == "router"]
        return max(found, key=lambda seen: (seen.started, seen.pid)) if len(found) > 1 else None

    async def _until_replaced(self, seen: Seen, window: list[float | None]) -> None:
        while (now := await self._look()).get(seen.pid, seen) == seen and seen.pid in now:
            await asyncio.sleep(0.2)
        await asyncio.sleep(DYING_S)
        window[1] = time.monotonic()

    async def _kill_keeper(self) -> str | None:
        keeper = await self._one("keeper")
        if keeper is None:
            return None
        await self._outage(lambda: _send(keeper.pid, signal.SIGKILL))
        return f"keeper (pid {keeper.pid})"

    async def _kill_all(self) -> str | None:
        """What is left of the engines then is the next `up`'s to end."""
        table = await self._look()
        roles = ("keeper", "controller", "watch", "router", "shim")
        pids = [seen.pid for seen in table.values() if seen.role in roles]

        def kill() -> None:
            for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped, none sees another die
                for pid in pids:
                    _send(pid, number)

        await self._outage(kill)
        return f"{len(pids)} processes at once"

    async def _next_start(self, **knobs: Any) -> str | None:
        """Have the next start of a model go wrong, and the one after that go well again."""
        model = self._model()
        self.device.knobs(model, **knobs)
        await self._run("restart", model, "--no-wait")
        asyncio.get_running_loop().call_later(6.0, lambda: self.device.knobs(model))
        return f"{model}: {knobs}"

    async def _reload(self) -> str | None:
        model = self._model()
        self.box.knobs[model] = TREE | {"load_s": round(self.rng.uniform(0.02, 0.5), 2)}
        self.box.write()
        return await self._command("reload")

    async def _down_and_up(self, *words: str) -> str | None:
        await self._outage(lambda: self._run_now("down", *words))
        return " ".join(words) or "drained"

    async def _outage(self, end: Callable[[], object]) -> None:
        """End the instance, look that nothing of it is left, and start it again."""
        window: list[float | None] = [time.monotonic(), None]
        self.outages.append(window)
        self.down = True
        await asyncio.to_thread(end)
        await asyncio.to_thread(self._wait_for_the_end)
        if not await self._start():
            self.violate("`up` did not bring the endpoint back")
        window[1] = time.monotonic()
        self.invariants.forget()
        self.down = False

    async def _start(self) -> bool:
        """Run `up` until the endpoint answers; again, as a service manager would, if it refuses."""
        deadline_s = time.monotonic() + COMMAND_S
        await asyncio.to_thread(self.box.start, wait=False)
        while not await self._serves():
            if time.monotonic() > deadline_s:
                return False
            await asyncio.sleep(0.1)
            if self.box.up is not None and self.box.up.poll() is not None:
                _, said = await asyncio.to_thread(self.box.up.communicate)
                told = [line for line in said.splitlines() if line.startswith("error")]
                self.say(f"[{self.now_s:7.2f}] up: exit status {self.box.up.returncode}: {told}")
                self.counts[f"command up: exit status {self.box.up.returncode}"] += 1
                if self.box.up.returncode not in HONEST_STATUS or "Traceback" in said:
                    self.violate(f"`up` ended with {self.box.up.returncode}: {said[-2000:]}")
                await asyncio.sleep(1.0)
                self.box.up = None
                await asyncio.to_thread(self.box.start, wait=False)
        return True

    def _wait_for_the_end(self) -> None:
        assert self.box.up is not None
        try:
            _, said = self.box.up.communicate(timeout=COMMAND_S)
        except subprocess.TimeoutExpired:
            self.violate(f"`up` (pid {self.box.up.pid}) did not end")
            self.box.up.kill()
            _, said = self.box.up.communicate()
        if "Traceback" in said:
            self.violate(f"`up` ended with a traceback: {said[-2000:]}")
        self.box.up = None

    async def _serves(self) -> bool:
        try:
            async with asyncio.timeout(5):
                _, writer = await asyncio.open_connection("127.0.0.1", self.box.instance.port)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return await asyncio.to_thread(self._status) is not None

    async def _command(self, *words: str) -> str | None:
        """Start a command and let it take its time: two may overlap, as two operators do."""
        if len(self.commands) >= 2:
            return None
        task = asyncio.create_task(self._run(*words))
        self.commands.add(task)
        task.add_done_callback(self.commands.discard)
        return " ".join(words)

    async def _run(self, *words: str) -> None:
        await asyncio.to_thread(self._run_now, *words)

    def _run_now(self, *words: str) -> None:
        begun_s = time.monotonic()
        try:
            done = self.box.instance.gpuserve(*words, timeout_s=COMMAND_S)
        except subprocess.TimeoutExpired:
            self.violate(f"`gpuserve {' '.join(words)}` did not end within {COMMAND_S:.0f} s")
            return
        # What a command needs may be taken away under it when the whole instance is killed.
        honest = done.returncode in HONEST_STATUS or self._overlap(self.outages, begun_s)
        if not honest or "Traceback" in done.stderr:
            self.violate(
                f"`gpuserve {' '.join(words)}` ended with {done.returncode}: {done.stderr[-2000:]}"
            )
        self.counts[f"command {words[0]}: exit status {done.returncode}"] += 1

    # ── what must hold ───────────────────────────────────────────────────────────────────

    def violate(self, what: str) -> None:
        """Note what must not have been."""
        line = f"[{self.now_s:7.2f}] {what}"
        self.violations.append(line)
        self.say(f"VIOLATION {line}")

    @property
    def now_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.began_s

    def judge(self, outcome: Outcome) -> None:
        """Hold a request's end against what was done meanwhile."""
        if outcome.kind in ("ok", "refused", "told"):
            return
        excused = self._overlap(self.outages, outcome.began_s, outcome.ended_s)
        if outcome.kind == "cut":
            faults = self.router_faults
            excused = excused or self._overlap(faults, outcome.began_s, outcome.ended_s)
        if not excused:
            began_s, took_s = outcome.began_s - self.began_s, outcome.ended_s - outcome.began_s
            self.violate(
                f"{outcome.name} for {outcome.model}, sent at {began_s:.2f}, took {took_s:.2f} s: "
                f"{outcome.detail}"
            )

    def _overlap(
        self, windows: list[list[float | None]], began_s: float, ended_s: float | None = None
    ) -> bool:
        """Return whether one of *windows* lies between *began_s* and *ended_s* (now)."""
        ended_s = time.monotonic() if ended_s is None else ended_s
        return any(
            begin is not None and ended_s >= begin and (end is None or began_s <= end)
            for begin, end in windows
        )

    def _status(self) -> dict[str, Any] | None:
        with suppress(ControllerSilent):
            return self.control.status(timeout_s=2.0)
        return None

    async def watch(self) -> None:
        """Compare processes and status until cancelled."""
        seen = 0
        while True:
            await asyncio.sleep(LOOK_S)
            if self.down:
                continue
            table = await self._look()
            status = await asyncio.to_thread(self._status)
            if not self.down:
                self.invariants.check(table, status)
            for what in self.invariants.violations:
                self.violate(what)
            self.invariants.violations.clear()
            unsound = self.device.violations()
            for event in unsound[seen:]:
                self.violate(f"{event['model']}: {event['event']} (pid {event['pid']})")
            seen = len(unsound)

    async def act(self, until_s: float) -> None:
        """Do one thing after another until *until_s*."""
        menu = self.menu()
        names, weights = list(menu), [weight for weight, _ in menu.values()]
        while time.monotonic() < until_s:
            await asyncio.sleep(self.rng.choice((0.0, self.rng.uniform(0.2, 2.5))))
            (name,) = self.rng.choices(names, weights)
            begun_s = self.now_s
            did = await menu[name][1]()
            if did is None:
                continue
            self.counts[f"action {name}"] += 1
            line = f"[{begun_s:7.2f}] {name}: {did}"
            self.actions.append(line)
            self.say(line)

    async def converge(self) -> None:
        """After the faults: all that is asked for is there, and nothing else."""
        while self.commands:
            await asyncio.wait(set(self.commands))
        for model in MODELS:
            self.device.knobs(model)
        for model in MODELS:
            await self._run("start", model, "--no-wait")
        status: dict[str, Any] | None = None
        deadline_s = time.monotonic() + CONVERGE_S
        while time.monotonic() < deadline_s:
            status = await asyncio.to_thread(self._status)
            if status is not None and all(m["ready"] for m in status["models"]):
                break
            await asyncio.sleep(LOOK_S)
            for model in status["models"] if status else ():
                if model["state"] in ("Failed", "Stopped"):  # what was still going on won
                    await self._run("start", model["name"], "--no-wait")
        else:
            self.violate(f"not converged after {CONVERGE_S:.0f} s: {json.dumps(status)}")
        if status is not None and status["faults"]:
            self.violate(f"faults that stay: {status['faults']}")

    def look_back(self) -> None:
        """What can be said only when all is over."""
        left = Traces(self.run_dir.path, ()).left(self.box.instance.port)
        for line in left:
            self.violate(f"left after `down`: {line}")
        for path in self.run_dir.logs.glob("*.log*"):
            text = path.read_text(errors="replace")
            # A shim that is told to end at once while Python starts has no other words yet.
            if "Traceback" in text.replace("KeyboardInterrupt", "") and not (
                path.name.startswith("shim-") and text.rstrip().endswith("KeyboardInterrupt")
            ):
                at = text.index("Traceback")
                self.violate(f"a traceback in {path.name}: {text[at : at + 2000]}")


def _send(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def make(root: Path, seed: int, say: Callable[[str], None]) -> Chaos:
    """Return a run in *root*, ready to begin."""
    device = Device(root / "device")
    device.prepare(cards=2)
    box = make_box(root)
    box.names = MODELS
    box.knobs = {name: dict(TREE) for name in MODELS}
    box.engine = dict(POLICY)
    box.size = "gpu_memory_utilization = 0.4"
    box.more = {"alpha": "gpus = [0]", "beta": "gpus = [0]", "gamma": "gpus = [1]"}
    box.environment = device.environment
    box.write()
    return Chaos(box, device, random.Random(seed), say)


async def run(chaos: Chaos, seed: int, minutes: float, clients: int) -> Traffic:
    """Run *chaos* and return the traffic that went on meanwhile."""
    box = chaos.box
    await asyncio.to_thread(box.start)
    traffic = Traffic(box.instance.port, MODELS, seed, clients=clients, told=chaos.judge)
    asking = asyncio.create_task(traffic.run())
    watching = asyncio.create_task(chaos.watch())
    try:
        await chaos.act(time.monotonic() + 60 * minutes)
        await chaos.converge()
        before = Counter(traffic.counts)
        await asyncio.sleep(2.0)
        chaos.faulty = False
        late = traffic.counts - before
        if any(not name.endswith(" ok") for name in late):
            chaos.violate(f"after all was ready: {dict(late)}")
        if watching.done():
            watching.result()
    finally:
        traffic.over = True
        await asyncio.wait({asking})
        watching.cancel()
        chaos.down = True
        await asyncio.to_thread(_end, chaos)
    asking.result()
    chaos.look_back()
    return traffic


def _end(chaos: Chaos) -> None:
    chaos.box.instance.gpuserve("down", "--now")
    chaos.box.end_if_running()


def main() -> int:
    """Run; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/chaos", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, help="repeat a run (default: a new one)")
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 32)
    root = Path(tempfile.mkdtemp(prefix="gpuserve-chaos-"))
    print(f"seed {seed}, {args.minutes:g} minutes, in {root}", file=sys.stderr)
    chaos = make(root, seed, lambda line: print(line, file=sys.stderr, flush=True))
    traffic = asyncio.run(run(chaos, seed, args.minutes, args.clients))
    summary = {
        "seed": seed,
        "minutes": args.minutes,
        "actions": sum(n for name, n in chaos.counts.items() if name.startswith("action")),
        "requests": sum(traffic.counts.values()),
        "counts": dict(sorted((chaos.counts + traffic.counts).items())),
        "violations": chaos.violations,
        "evidence": str(root) if chaos.violations else None,
    }
    if args.json:
        print(json.dumps(summary, indent=1))
    else:
        tell(summary)
    if chaos.violations:
        (root / "actions").write_text("\n".join(chaos.actions))
        return 1
    shutil.rmtree(root)
    return 0


def tell(summary: dict[str, Any]) -> None:
    """Print the summary for people."""
    for name, count in summary["counts"].items():
        print(f"{count:7d}  {name}")
    print(
        f"seed {summary['seed']}: {summary['actions']} actions in {summary['minutes']:g} minutes, "
        f"{summary['requests']} requests"
    )
    for line in summary["violations"]:
        print(f"VIOLATION {line}")
    if summary["violations"]:
        print(
            f"{len(summary['violations'])} violations; logs and state are in {summary['evidence']}"
        )
    else:
        print("every invariant held")


if __name__ == "__main__":
    sys.exit(main())
