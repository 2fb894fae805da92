"""The unit file against systemd itself, and against what the code does."""

import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from gpuserve.cli.main import COMMANDS
from gpuserve.errors import ExitStatus
from gpuserve.keeperconf import ROUTER_STOP_S, STOP_MARGIN_S
from gpuserve.profile.spec import Patience

SYSTEMD = Path(__file__).resolve().parents[2] / "systemd"
UNIT = SYSTEMD / "gpuserve.service"
INSTALLED = "/opt/gpuserve/current/bin/gpuserve"
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here"
)


def directives() -> dict[str, list[str]]:
    """Return key → values of the unit file, in order."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if match := re.fullmatch(r"(\w+)=(.*)", line):
            found[match[1]].append(match[2])
    return found


def seconds(key: str) -> float:
    (value,) = directives()[key]
    return float(value)


@pytest.fixture
def unit_here(tmp_path: Path) -> Path:
    """The unit with the gpuserve of this environment, because verify looks for the program."""
    here = Path(sys.executable).with_name("gpuserve")
    assert os.access(here, os.X_OK)
    unit = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8").replace(INSTALLED, str(here))
    unit.write_text(text, encoding="utf-8")
    return unit


@needs_systemd
def test_systemd_accepts_the_unit_without_a_word(unit_here: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", unit_here], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (done.returncode, ours) == (0, [])


@needs_systemd
def test_systemd_refuses_a_unit_that_is_wrong(unit_here: Path) -> None:
    text = unit_here.read_text(encoding="utf-8").replace("Type=notify", "Type=notfy")
    unit_here.write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", unit_here], capture_output=True, text=True, check=False
    )
    assert "notfy" in done.stderr


@needs_systemd
def test_the_sandbox_is_as_tight_as_it_was_measured(unit_here: Path) -> None:
    # 21: exposure 2.1, measured with systemd 252 and 257; a bare unit has 9.6.
    # --offline came with systemd 250.
    words = ["systemd-analyze", "security", "--offline=true", "--threshold=21", str(unit_here)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


def test_every_command_of_the_unit_exists() -> None:
    found = directives()
    lines = [line for key in found if key.startswith("Exec") for line in found[key]]
    assert len(lines) >= 2
    for line in lines:
        program, command, *_ = line.lstrip("-+!").split()
        assert program == INSTALLED
        assert command in COMMANDS


def test_a_restart_is_not_tried_where_it_cannot_help() -> None:
    (prevented,) = directives()["RestartPreventExitStatus"]
    assert {int(word) for word in prevented.split()} == {ExitStatus.USAGE, ExitStatus.CONFIG}
    assert directives()["Restart"] == ["on-failure"]


def test_the_start_limit_can_be_reached() -> None:
    assert seconds("RestartSec") * seconds("StartLimitBurst") < seconds("StartLimitIntervalSec")


def test_systemd_waits_longer_for_the_stop_than_the_stop_may_take() -> None:
    patience = Patience()
    longest = patience.drain_timeout_s + patience.stop_timeout_s + STOP_MARGIN_S + ROUTER_STOP_S
    assert seconds("TimeoutStopSec") > longest


def test_nothing_sends_sighup_which_restarts_everything() -> None:
    settings = "\n".join(line for line in UNIT.read_text().splitlines() if not line.startswith("#"))
    assert "HUP" not in settings
    (reload,) = directives()["ExecReload"]
    (start,) = directives()["ExecStart"]
    assert reload == start.replace(" up ", " reload --no-wait ")
    assert directives()["Type"] == ["notify"]  # notify-reload sends SIGHUP
    assert directives()["KillMode"] == ["mixed"]


def test_children_may_notify_because_supervisord_cannot() -> None:
    assert directives()["NotifyAccess"] == ["all"]


def test_the_account_of_the_unit_is_the_one_that_sysusers_makes() -> None:
    (user,) = directives()["User"]
    lines = (SYSTEMD / "sysusers.d" / "gpuserve.conf").read_text().splitlines()
    assert [line.split()[:2] for line in lines if not line.startswith("#")] == [["u", user]]


def test_the_how_to_installs_every_file_that_is_here() -> None:
    how_to = (SYSTEMD / "README.md").read_text(encoding="utf-8")
    files = [path for path in SYSTEMD.rglob("*") if path.is_file() and path.name != "README.md"]
    assert len(files) == 4
    missing = [p for p in files if f"systemd/{p.relative_to(SYSTEMD)} " not in how_to]
    assert missing == []
