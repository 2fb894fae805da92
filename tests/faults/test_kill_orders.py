"""SIGKILL in every order. After each: nothing of the old tree lives, the others kept theirs."""

import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest

from gpuserve.machine.instance import Instance, write
from gpuserve.rundir import RunDir
from scripts.leftovers import is_alive
from tests.e2e.instance import until
from tests.faults.conftest import ROLES, TREE, Lab, ended

ORDERS = tuple(itertools.permutations(ROLES))
AT_ONCE = 6
SLOW = pytest.mark.slow


def kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        if is_alive(process):
            os.kill(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "first", [0, *(pytest.param(n, marks=SLOW) for n in range(AT_ONCE, len(ORDERS), AT_ONCE))]
)
def test_an_engine_killed_in_any_order_is_gone_and_comes_back(lab: Lab, first: int) -> None:
    """Each engine of the instance dies in an order of its own, all of them at the same time."""
    orders = dict(zip("abcdef", ORDERS[first : first + AT_ONCE], strict=True))
    lab.box.names = (*orders, "bystander")
    lab.device.prepare(cards=len(lab.box.names))  # one each: they start side by side
    lab.box.engine = {"device": "auto"}
    lab.box.size = "gpu_memory_utilization = 0.8"
    lab.box.more = {name: f"gpus = [{n}]" for n, name in enumerate(lab.box.names)}
    lab.box.knobs = dict.fromkeys(lab.box.names, TREE)
    lab.box.start()
    trees = {name: lab.tree(name) for name in orders}
    bystander = lab.tree("bystander")
    for turn in range(len(ROLES)):
        kill(trees[name][order[turn]] for name, order in orders.items())
    until(lambda: all(lab.model(name)["restarts"] == 1 for name in orders), "all were restarted")
    lab.until_ready()
    assert ended(process for tree in trees.values() for process in tree.values())
    assert {name: lab.box.chat(name).status for name in orders} == dict.fromkeys(orders, 200)
    assert lab.tree("bystander") == bystander
    assert lab.model("bystander")["restarts"] == 0
    lab.box.instance.must("down")
    lab.box.must_be_gone()


@pytest.mark.parametrize("role", ROLES)
def test_each_process_of_an_engine_takes_the_others_with_it(lab: Lab, role: str) -> None:
    """Only one is killed; a worker that holds the memory must not outlive its server."""
    lab.box.start()
    tree, neighbour = lab.tree("coder"), lab.tree("general")
    kill([tree[role]])
    if role == "worker":  # the core of the stand-in does not watch it; vLLM's does
        kill([tree["core"]])
    until(lab.says(lambda s: s["models"][0]["restarts"] == 1), "it is restarted")
    lab.until_ready()
    assert ended(tree.values())
    assert lab.tree("general") == neighbour
    assert lab.box.chat("coder").status == 200


@pytest.mark.parametrize(
    "order",
    [
        ("controller", "shim"),
        pytest.param(("shim", "controller"), marks=SLOW),
        pytest.param(("server", "controller", "shim"), marks=SLOW),
        ("router", "controller", "shim", "core"),
        pytest.param(("watch", "controller", "server"), marks=SLOW),
    ],
    ids="-".join,
)
def test_an_engine_killed_beside_the_control_plane_is_gone_and_comes_back(
    lab: Lab, order: tuple[str, ...]
) -> None:
    """A new controller knows nothing but the process table and the files."""
    lab.box.start()
    tree, neighbour = lab.tree("coder"), lab.tree("general")
    programs = {
        "controller": lab.program("gpuserve.controller"),
        "watch": lab.program("gpuserve.watch"),
        "router": lab.worker(),
    }
    kill((tree | programs)[role] for role in order)
    until(lambda: ended((tree | programs)[role] for role in order), "what was killed is gone")
    until(
        lab.says(lambda s: all(m["ready"] and m["pid"] != tree["server"].pid for m in s["models"])),
        "both serve, one of them anew",
    )
    assert ended(tree.values())
    assert lab.tree("general") == neighbour
    until(lambda: lab.box.chat("coder").status == 200, "it answers")


@pytest.mark.parametrize("order", ["keeper last", pytest.param("keeper first", marks=SLOW)])
def test_a_killed_keeper_leaves_nothing_whoever_dies_with_it(lab: Lab, order: str) -> None:
    """The keeper and the shims at once: nobody is left who could tidy up, but the controller."""
    lab.box.start()
    trees = [lab.tree(name) for name in lab.box.names]
    shims = [tree["shim"] for tree in trees]
    assert lab.box.up is not None
    keeper = psutil.Process(lab.box.up.pid)
    kill([keeper, *shims] if order == "keeper first" else [*shims, keeper])
    lab.box.up.communicate(timeout=30)
    lab.box.up = None
    until(lambda: ended(p for tree in trees for p in tree.values()), "every engine is gone")
    until(lambda: not lab.box.processes(), "every process has ended")
    lab.box.must_be_gone()
    lab.box.start()
    assert lab.box.chat("coder").status == 200


@pytest.mark.parametrize("slot", [0, 1])
def test_a_router_whose_keeper_died_before_it_could_ask_ends(tmp_path: Path, slot: int) -> None:
    """Else it would be nobody's, and hold the port against the next instance."""
    keeper = Instance(
        keeper_pid=os.getpid() + 1,  # whoever it was, it is not our parent
        keeper_start_ticks=0,
        profile="",
        url="",
        started_unix_s=0.0,
        version="",
    )
    run_dir = RunDir(tmp_path)
    write(run_dir, keeper)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        done = subprocess.run(
            [sys.executable, "-m", "gpuserve.router", str(tmp_path), str(slot)],
            stdin=listening.fileno(),
            env=os.environ | {"SUPERVISOR_ENABLED": "1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 70
    assert "the keeper has ended" in done.stderr
