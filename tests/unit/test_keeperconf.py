"""supervisord reads the configuration as it was meant, whatever the paths hold."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from supervisor.options import ServerOptions

from gpuserve.keeperconf import KeptEngine, keeper_conf, router_slots
from gpuserve.profile.spec import Patience, ServerSpec
from gpuserve.rundir import RunDir


def parsed(tmp_path: Path, **server: Any) -> dict[str, Any]:
    run_dir = RunDir(tmp_path)
    run_dir.logs.mkdir(parents=True)
    engines = [KeptEngine("coder", Patience(drain_timeout_s=40, stop_timeout_s=7))]
    text = keeper_conf(run_dir, "/opt/a b/python", ServerSpec(**server), engines)
    run_dir.keeper_conf.write_text(text)
    options = ServerOptions()
    options.realize(["-n", "-c", str(run_dir.keeper_conf)])
    found = {}
    for group in options.process_group_configs:
        for process in group.process_configs:
            found[process.name] = process
            found[f"group of {process.name}"] = group
    return found


@pytest.mark.parametrize("name", ["plain", "with space", "a+b=c", "größer"])
def test_a_run_directory_of_any_name_reaches_the_programs_unchanged(
    tmp_path: Path, name: str
) -> None:
    found = parsed(tmp_path / name)
    words = shlex.split(found["engine-coder"].command)
    assert words == [
        "/opt/a b/python",
        *("-P", "-m", "gpuserve.shim", str(tmp_path / name), "coder"),
    ]
    words = shlex.split(found["router_02"].command)
    assert words[-2:] == [str(tmp_path / name), "2"]


def test_an_engine_is_never_restarted_by_the_keeper(tmp_path: Path) -> None:
    engine = parsed(tmp_path)["engine-coder"]
    assert (engine.autostart, engine.autorestart) == (False, False)
    assert (engine.startsecs, engine.startretries) == (0, 0)


def test_the_controller_stops_first_and_has_time_to_drain(tmp_path: Path) -> None:
    found = parsed(tmp_path)
    order = [found[f"group of {n}"].priority for n in ("controller", "engine-coder", "router_00")]
    assert order == sorted(order, reverse=True)
    assert found["controller"].stopwaitsecs >= 40 + 7


def test_all_router_slots_share_one_socket(tmp_path: Path) -> None:
    found = parsed(tmp_path, workers=2, port=8123)
    group = found["group of router_00"]
    assert len(group.process_configs) == router_slots(2) == 5
    assert group.socket_config.url == "tcp://127.0.0.1:8123"
