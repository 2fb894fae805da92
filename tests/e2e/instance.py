"""A running gpuserve, used as a user would: by its commands and its endpoint."""

import http.client
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from gpuserve.machine.unixhttp import UnixConnection
from gpuserve.rundir import RunDir

COMMAND_S = 120.0
READY_S = 400.0  # two engines, one after the other, on two slow cores
POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance in a run directory of its own, or the place for one."""

    run_dir: Path
    profile: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def gpuserve(
        self, *words: str, timeout_s: float = COMMAND_S
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; the caller looks at its exit status."""
        argv = [sys.executable, "-m", "gpuserve", "--run-dir", str(self.run_dir), *words]
        return subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False)

    def must(self, *words: str, timeout_s: float = COMMAND_S) -> str:
        """Run a command that must exit 0 and return its output."""
        done = self.gpuserve(*words, timeout_s=timeout_s)
        assert done.returncode == 0, (
            f"gpuserve {' '.join(words)}: exit status {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done.stdout

    def status(self) -> Any:
        """Return the status; asks again while the controller is away, which it says itself."""
        deadline = time.monotonic() + COMMAND_S
        while True:
            done = self.gpuserve("status", "--json")
            assert done.returncode in (0, 1), done.stderr
            if done.stdout:
                return json.loads(done.stdout)
            assert time.monotonic() < deadline, done.stderr

    def model(self, name: str) -> Any:
        return next(model for model in self.status()["models"] if model["name"] == name)

    def wait_ready(self) -> None:
        self.must("wait", "--timeout", str(READY_S), timeout_s=READY_S + 30)

    def processes_of(self, name: str) -> list[psutil.Process]:
        """Return the engine's processes: the one that status names, and its descendants."""
        model = self.model(name)
        assert model["pid"] is not None, model
        root = psutil.Process(model["pid"])
        return [root, *root.children(recursive=True)]

    def engine_core(self, name: str) -> psutil.Process:
        """Return vLLM's EngineCore of that model; it sets its own title."""
        found = [p for p in self.processes_of(name) if "EngineCore" in " ".join(p.cmdline())]
        assert len(found) == 1, [p.cmdline() for p in self.processes_of(name)]
        return found[0]

    def worker(self, name: str) -> psutil.Process:
        """Return vLLM's Worker of that model, which holds the memory."""
        (found,) = (p for p in self.processes_of(name) if "VLLM::Worker" in " ".join(p.cmdline()))
        return found

    def shim(self, name: str) -> psutil.Process:
        """Return the process of ours that looks after the engine of that model."""
        return psutil.Process(self.model(name)["shim_pid"])

    def api_server(self, name: str) -> psutil.Process:
        """Return vLLM's API server of that model, EngineCore's parent."""
        parent = self.engine_core(name).parent()
        assert parent is not None
        return parent

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def post(self, path: str, body: object) -> Answer:
        return self.request("POST", path, json.dumps(body).encode())

    def request(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """Send one request on a connection of its own; raises OSError or HTTPException."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {"content-type": "application/json"})
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, headers, answer.read())
        finally:
            connection.close()

    def ask_engine(self, name: str, method: str, path: str, body: object = None) -> Answer:
        """Send one request past the router, to the engine's own socket."""
        connection = UnixConnection(RunDir(self.run_dir).engine_socket(name), timeout_s=60)
        try:
            raw = None if body is None else json.dumps(body).encode()
            connection.request(method, path, raw, {"content-type": "application/json"})
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def running(self, name: str) -> int:
        """Return how many requests the engine works on."""
        return int(self._metric(name, "vllm:num_requests_running"))

    def generated(self, name: str) -> int:
        """Return how many tokens the engine has generated."""
        return int(self._metric(name, "vllm:generation_tokens_total"))

    def _metric(self, name: str, metric: str) -> float:
        text = self.ask_engine(name, "GET", "/metrics").body.decode()
        samples = re.findall(rf"^{metric}\{{[^}}]*\}} (\S+)$", text, re.MULTILINE)
        return sum(float(value) for value in samples)

    @contextmanager
    def traffic(self, model: str) -> Iterator[list[str]]:
        """Keep asking *model* meanwhile; the list gets "200" or what was wrong, per answer."""
        answers: list[str] = []
        over = threading.Event()

        def ask() -> None:
            body = {"model": model, "prompt": "on and on and on", "max_tokens": 2}
            while not over.is_set():
                try:
                    answer = self.post("/v1/completions", body)
                    wrong = f"{answer.status} {answer.body.decode()}"
                    answers.append("200" if answer.status == 200 else wrong)
                except (OSError, http.client.HTTPException) as error:
                    answers.append(repr(error))
                over.wait(POLL_S)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield answers
        finally:
            over.set()
            thread.join()


def until(holds: Callable[[], bool], what: str, *, timeout_s: float = 60.0) -> None:
    """Look until *holds*; fails with *what* was waited for."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"after {timeout_s:.0f} s still not: {what}"
        time.sleep(POLL_S)
