"""A new profile while the instance runs: what it does not change keeps its process."""

import json
import os
import signal
import threading
from typing import Any

from tests.e2e.instance import until
from tests.integration.instance.conftest import Box, free_port


def pids(box: Box) -> dict[str, int]:
    return {model["name"]: model["pid"] for model in box.instance.status()["models"]}


def edit(box: Box, old: str, new: str) -> None:
    text = box.instance.profile.read_text()
    assert old in text
    box.instance.profile.write_text(text.replace(old, new))


def third_model(box: Box, name: str = "helper") -> str:
    model = box.root / "model"
    return (
        f'[[model]]\nname = "{name}"\nmodel = "{model}"\nmax_model_len = 1024\n'
        f'kv_cache_memory_bytes = "1 MiB"\n'
    )


def reloaded(box: Box, *words: str) -> Any:
    return json.loads(box.instance.must("reload", "--json", *words))


def test_routing_aliases_and_patience_change_without_any_engine(running: Box) -> None:
    before = pids(running)
    running.aliases = {"coder": "new-alias"}
    running.engine = {"drain_timeout_s": 7.0}
    running.write()
    edit(running, 'code = "coder"', 'code = "general"')
    diff = reloaded(running)["diff"]
    assert (diff["changed"], diff["added"], diff["removed"], diff["pending"]) == ([], [], [], [])
    assert {row["name"] for row in diff["service"]} == {"routing", "coder", "general"}
    assert pids(running) == before
    answer = running.chat("new-alias")
    assert (answer.status, answer.headers["x-gpuserve-model"]) == (200, "coder")
    assert running.chat("coder-alias").status == 404
    code = running.chat(prompt="Write a Python function that merges two sorted lists.")
    assert code.headers["x-gpuserve-model"] == "general"


def test_a_changed_engine_is_drained_and_replaced_and_the_other_serves_on(box: Box) -> None:
    box.knobs = {"coder": {"tokens": 20, "token_s": 0.1}}
    box.start()
    before = pids(box)
    answers: list[Any] = []
    stream = threading.Thread(target=lambda: answers.append(box.chat("coder", stream=True)))
    stream.start()
    until(lambda: bool(_in_flight(box)), "the stream runs")
    box.more = {"coder": "max_num_seqs = 3"}
    box.write()
    with box.instance.traffic("general") as others:
        shown = box.instance.must("reload")
    stream.join(timeout=20)
    assert "~ coder" in shown.replace("  ", " ")
    assert "max_num_seqs" in shown
    assert answers[0].body.endswith(b"data: [DONE]\n\n"), "what was in flight has finished"
    assert set(others) == {"200"}
    after = pids(box)
    assert after["general"] == before["general"]
    assert after["coder"] not in (before["coder"], None)
    assert "3" in _launched(box, "coder")


def _in_flight(box: Box) -> bool:
    return any(
        row["in_flight"] for row in json.loads(_router(box, "/upstreams"))["upstreams"].values()
    )


def _router(box: Box, path: str) -> str:
    import http.client

    from gpuserve.machine.unixhttp import UnixConnection
    from gpuserve.rundir import RunDir

    connection: http.client.HTTPConnection = UnixConnection(
        RunDir(box.instance.run_dir).router_socket(1), 5.0
    )
    connection.request("GET", path)
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def _launched(box: Box, name: str) -> list[str]:
    argv: list[str] = json.loads((box.instance.run_dir / "launches" / f"{name}.json").read_text())[
        "argv"
    ]
    return argv


def test_models_are_added_and_removed(running: Box) -> None:
    before = pids(running)
    text = running.instance.profile.read_text()
    running.instance.profile.write_text(text + third_model(running))
    running.instance.must("reload")
    assert pids(running) == before | {"helper": pids(running)["helper"]}
    assert running.chat("helper").status == 200
    edit(running, third_model(running), "")
    running.instance.must("reload")
    assert pids(running) == before
    assert running.chat("helper").status == 404
    assert "engine-helper" not in (running.instance.run_dir / "keeper.conf").read_text()
    running.end()
    running.must_be_gone()


REFUSED = (
    ("[routing]", "[routing", 78, "profile.toml:"),
    ("max_model_len = 1024", "max_model_len = 1024\nmax_modl_len = 3", 78, "max_model_len"),
    ('kv_cache_memory_bytes = "1 MiB"', 'kv_cache_memory_bytes = "9000 GiB"', 78, "needs"),
    ("port = ", "workers = 2\nport = ", 1, "full restart"),
)


def test_a_profile_that_is_refused_changes_nothing_and_says_why(running: Box) -> None:
    before = pids(running)
    good = running.instance.profile.read_text()
    for old, new, status, words in REFUSED:
        edit(running, old, new)
        done = running.instance.gpuserve("reload")
        assert (done.returncode, words in done.stderr) == (status, True), done.stderr
        assert "nothing was changed" in done.stderr
        assert "Traceback" not in done.stderr
        running.instance.profile.write_text(good)
    assert pids(running) == before
    assert running.chat("coder").status == 200
    assert running.instance.must("events").count("reload refused") == len(REFUSED)


def test_a_dry_run_shows_what_would_change_and_changes_nothing(running: Box) -> None:
    before = pids(running)
    running.more = {"coder": "enforce_eager = true", "general": f"port = {free_port()}"}
    running.write()
    shown = running.instance.must("reload", "--dry-run")
    assert "enforce_eager false -> true" in shown
    assert "port not stated -> " in shown
    assert pids(running) == before
    running.instance.must("reload")
    assert running.instance.model("general")["port"] is not None
    assert running.chat("general").status == 200


def test_a_changed_engine_that_does_not_start_gets_its_old_settings_back(running: Box) -> None:
    before = pids(running)
    running.knobs = {"coder": {"start_exit": 1, "start_line": "ValueError: too hot"}}
    running.more = {"coder": "max_num_seqs = 3"}
    running.aliases = {"general": "other-alias"}
    running.write()
    done = running.instance.gpuserve("reload")
    assert done.returncode == 1
    assert "coder: rolled back" in done.stderr
    assert "ValueError: too hot" in done.stderr
    running.instance.must("wait", "--timeout", "30")
    after = pids(running)
    assert after["general"] == before["general"]
    assert "3" not in _launched(running, "coder")
    assert running.chat("coder").status == 200
    assert running.chat("other-alias").status == 200, "the rest of the profile is in force"
    assert "rolled back" in running.instance.must("events", "coder")
    os.kill(running.pid_of("gpuserve.controller"), signal.SIGKILL)
    until(lambda: pids(running) == after, "a new controller knows the settings that count")


def test_a_controller_killed_during_a_reload_is_followed_by_one_that_goes_on(box: Box) -> None:
    box.knobs = {"coder": {"load_s": 2.0}}
    box.start()
    before = pids(box)
    box.more = {"coder": "max_num_seqs = 3", "general": "max_num_seqs = 3"}
    box.write()
    box.instance.must("reload", "--no-wait")
    until(lambda: box.instance.model("coder")["state"] == "Starting", "the first is replaced")
    os.kill(box.pid_of("gpuserve.controller"), signal.SIGKILL)
    until(
        lambda: pids(box)["general"] not in (before["general"], None), "the second is replaced too"
    )
    box.instance.must("wait", "--timeout", "30")
    assert "3" in _launched(box, "coder")
    assert "3" in _launched(box, "general")


def test_what_the_operator_stopped_stays_stopped_and_starts_with_the_new_settings(
    running: Box,
) -> None:
    running.instance.must("stop", "coder")
    running.more = {"coder": "max_num_seqs = 3"}
    running.write()
    running.instance.must("reload")
    assert running.instance.model("coder")["state"] == "Stopped"
    running.instance.must("start", "coder")
    assert "3" in _launched(running, "coder")


def test_another_profile_becomes_the_one_that_is_reloaded(running: Box) -> None:
    other = running.root / "other.toml"
    other.write_text(running.instance.profile.read_text().replace("coder-alias", "other-alias"))
    running.instance.must("reload", str(other))
    assert running.instance.status()["profile"] == str(other)
    assert running.chat("other-alias").status == 200
    again = reloaded(running)
    assert not any(again["diff"][key] for key in ("added", "removed", "changed", "service"))


def test_an_upgrade_replaces_gpuserves_own_processes_and_no_engine_and_cuts_no_stream(
    box: Box,
) -> None:
    box.knobs = {"coder": {"tokens": 30, "token_s": 0.1}}
    box.start()
    before, controller = pids(box), box.pid_of("gpuserve.controller")
    worker = _worker(box)
    answers: list[Any] = []
    stream = threading.Thread(target=lambda: answers.append(box.chat("coder", stream=True)))
    stream.start()
    until(lambda: bool(_in_flight(box)), "the stream runs")
    with box.instance.traffic("general") as others:
        box.instance.must("reload", "--upgrade")
        until(lambda: "router replaced" in box.instance.must("events"), "the routers are replaced")
    stream.join(timeout=20)
    assert answers[0].body.endswith(b"data: [DONE]\n\n")
    assert set(others) == {"200"}
    assert pids(box) == before
    assert box.pid_of("gpuserve.controller") != controller
    assert _worker(box) != worker
    until(lambda: not _slot(box, 2), "the spare has gone")


def _slot(box: Box, slot: int) -> list[int]:
    return [
        p.pid
        for p in box.processes()
        if "gpuserve.router" in p.cmdline() and p.cmdline()[-1] == str(slot)
    ]


def _worker(box: Box) -> int:
    (pid,) = _slot(box, 1)
    return pid


def test_a_controller_that_hangs_is_replaced_by_a_reload(running: Box) -> None:
    before = pids(running)
    hung = running.pid_of("gpuserve.controller")
    os.kill(hung, signal.SIGSTOP)
    running.instance.must("reload")
    assert running.pid_of("gpuserve.controller") != hung
    assert pids(running) == before
