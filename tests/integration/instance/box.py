"""An instance of two fake engines: written, started, operated, and proved to be gone."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from gpuserve.machine.control import find_instance
from gpuserve.rundir import RunDir
from scripts.leftovers import Traces, named
from tests.e2e.instance import Instance, until

ENGINE = Path(__file__).parents[1] / "fake_engine.py"
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "torch_dtype": "bfloat16",
}


@dataclass
class Box:
    """A place for one instance. Set knobs, then `write` and `up`."""

    root: Path
    instance: Instance
    knobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)  # instead of the directory
    aliases: dict[str, str] = field(default_factory=dict)  # instead of NAME-alias
    more: dict[str, str] = field(default_factory=dict)  # another line for a model
    extra: str = ""  # more tables
    server: str = ""  # more lines of [server]
    names: tuple[str, ...] = ("coder", "general")
    size: str = 'kv_cache_memory_bytes = "1 MiB"'  # what each model says of its memory
    prefix: tuple[str, ...] = ()  # runs `up`, and becomes it in the end
    environment: dict[str, str] = field(default_factory=dict)  # of `up`, besides our own
    up: subprocess.Popen[str] | None = None

    def write(self) -> None:
        """Write the profile anew, with the knobs as they are now."""
        settings = {
            "device": "cpu",
            "vllm": str(self.root / "vllm"),
            "start_timeout_s": 20.0,
            "drain_timeout_s": 5.0,
            "stop_timeout_s": 2.0,
            "restart_backoff_s": 0.05,
            "restart_limit": 3,
        } | self.engine
        lines = [f"[server]\nport = {self.instance.port}\n{self.server}\n[engine]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
        for name in self.names:
            knobs = json.dumps(json.dumps(self.knobs.get(name, {})))
            model = self.models.get(name, str(self.root / "model"))
            lines.append(
                f'[[model]]\nname = "{name}"\nmodel = "{model}"\n'
                f'aliases = ["{self.aliases.get(name, name + "-alias")}"]\nmax_model_len = 1024\n'
                f"{self.size}\nenv = {{ FAKE_ENGINE = {knobs} }}"
                f"\n{self.more.get(name, '')}"
            )
        code, *_, general = self.names
        lines.append(f'[routing]\ncode = "{code}"\ngeneral = "{general}"\ndefault = "{general}"\n')
        lines.append(self.extra)
        self.instance.profile.write_text("\n".join(lines))

    def start(self, *, wait: bool = True) -> None:
        """Run `gpuserve up` in the foreground, as a service manager would."""
        self.write()
        if self.up is not None:  # an earlier one, ended by `down`
            self.up.communicate(timeout=40)
        self.up = subprocess.Popen(
            [
                *self.prefix,
                *(sys.executable, "-m", "gpuserve", "--run-dir", str(self.instance.run_dir)),
                *("up", str(self.instance.profile)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | self.environment,
        )
        if wait:
            # `wait` gives up on an instance that is not there yet sooner than a loaded box has it.
            up, run_dir = self.up, RunDir(self.instance.run_dir)
            until(
                lambda: up.poll() is not None or find_instance(run_dir) is not None,
                "there is an instance",
            )
            self.instance.must("wait", "--timeout", "60")

    def chat(self, model: str = "auto", prompt: str = "hello there", **more: Any) -> Any:
        body = {"model": model, "messages": [{"role": "user", "content": prompt}], **more}
        return self.instance.post("/v1/chat/completions", body)

    def pid_of(self, word: str) -> int:
        """Return the pid of the one process of this instance whose command line holds *word*."""
        found = [p.pid for p in self.processes() if word in " ".join(p.cmdline())]
        assert len(found) == 1, (word, found)
        return found[0]

    def pid_of_command(self, command: str) -> int:
        """Return the pid of the gpuserve command that works on this instance's profile."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):  # it has just gone, or is a zombie
                words = process.cmdline()
                if command in words and str(self.instance.profile) in words:
                    found.append(process.pid)
        assert len(found) == 1, (command, found)
        return found[0]

    def core_of(self, name: str) -> psutil.Process:
        """Return the engine core of that model: what an API server leaves behind."""
        (core,) = (p for p in self.instance.processes_of(name) if "fake-engine-core" in p.cmdline())
        return core

    def processes(self) -> list[psutil.Process]:
        """Return every process that names the run directory or where its sockets are."""
        sockets = RunDir(self.instance.run_dir).sockets
        places = {self.instance.run_dir, sockets}
        return [process for place in places for process in named(place)]

    def must_be_gone(self) -> None:
        """Fail unless no process, socket or lock is left."""
        until(lambda: not self.processes(), "every process has ended", timeout_s=20)
        assert Traces(self.instance.run_dir, ()).left(self.instance.port) == []
        assert not (self.instance.run_dir / "instance.json").exists()
        assert not (self.instance.run_dir / "lock").exists()
        sockets = RunDir(self.instance.run_dir).sockets
        assert sockets == self.instance.run_dir or not sockets.exists()

    def end_if_running(self) -> None:
        """Have `up` ended, whatever it takes."""
        if self.up is None:
            return
        try:
            self.up.communicate(timeout=40)
        except subprocess.TimeoutExpired:
            self.up.kill()
            self.up.communicate()
        self.up = None

    def end(self) -> str:
        """End the foreground `up` as a terminal would, and return what it said."""
        assert self.up is not None
        self.up.send_signal(signal.SIGINT)
        _, said = self.up.communicate(timeout=40)
        assert self.up.returncode == 0, said
        self.up = None
        return said


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_box(root: Path) -> Box:
    """Return the place for an instance in *root*: a model, the stand-in for vLLM, a free port."""
    (root / "model").mkdir()
    (root / "model" / "config.json").write_text(json.dumps(CONFIG))
    wrapper = root / "vllm"
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} {ENGINE} "$@"\n')
    wrapper.chmod(0o755)
    return Box(root, Instance(root / "run", root / "profile.toml", free_port()))
