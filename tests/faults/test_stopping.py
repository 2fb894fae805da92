"""Drain and stop: in flight first, SIGTERM again and again, then SIGKILL; all engines at once."""

import signal
import threading
from pathlib import Path

import pytest

from tests.e2e.instance import until
from tests.faults.conftest import TREE, Lab, ended


def times(lab: Lab, event: str) -> dict[str, float]:
    """Return when each model did that for the first time."""
    found: dict[str, float] = {}
    for row in lab.device.events():
        if row["event"] == event:
            found.setdefault(str(row["model"]), float(str(row["at_s"])))
    return found


@pytest.mark.parametrize(
    "how", ["SIGTERM", *(pytest.param(how, marks=pytest.mark.slow) for how in ("down", "SIGINT"))]
)
def test_engines_stop_side_by_side(lab: Lab, how: str) -> None:
    lab.box.names = ("a", "b", "c", "d")
    lab.box.knobs = dict.fromkeys(lab.box.names, TREE | {"stop_s": 1.0})
    lab.box.engine = {"stop_timeout_s": 20.0}
    lab.box.start()
    if how == "down":
        lab.box.instance.must("down")
    else:
        assert lab.box.up is not None
        lab.box.up.send_signal(signal.Signals[how])
    lab.box.end_if_running()
    lab.box.must_be_gone()
    asked, gone = times(lab, "SIGTERM"), times(lab, "end")
    assert set(asked) == set(gone) == set(lab.box.names), "nobody was killed"
    assert max(asked.values()) < min(gone.values()), "all were asked before the first had ended"


def test_sigterm_that_is_lost_while_loading_is_sent_again(lab: Lab) -> None:
    """vLLM 0.32 loses it between the start of its engine and ready."""
    lab.box.knobs["coder"] = TREE | {"lose_sigterm": True, "load_s": 4.0}
    lab.box.engine = {"stop_timeout_s": 30.0}
    lab.box.start(wait=False)
    until(lab.says(lambda s: s["models"][0]["state"] == "Starting"), "it loads")
    until(lambda: "coder" in times(lab, "start"), "its process runs")
    lab.box.instance.must("stop", "coder")
    assert lab.model("coder")["state"] == "Stopped"
    assert "coder" in times(lab, "end"), "it ended by itself: the signal came again"


def test_what_ignores_everything_is_killed_with_all_that_it_has_left(lab: Lab) -> None:
    lab.box.knobs["coder"] = TREE | {"ignore_sigterm": True, "core_obeys": False}
    lab.box.engine = {"stop_timeout_s": 0.5}
    lab.box.start()
    tree = lab.tree("coder")
    lab.box.instance.must("stop", "coder")
    assert ended(tree.values())
    lab.until_ready("general")


def test_down_now_hurries_a_drain_that_is_under_way(lab: Lab) -> None:
    lab.box.knobs["coder"] = TREE | {"tokens": 10_000, "token_s": 0.1}
    lab.box.engine = {"drain_timeout_s": 600.0}
    lab.box.start()
    asked = threading.Thread(target=lambda: lab.box.chat("coder", stream=True), daemon=True)
    asked.start()
    until(lambda: "coder" in times(lab, "request"), "the stream runs")
    lab.box.instance.must("down", "--no-wait")
    until(lab.says(lambda s: s["models"][0]["state"] == "Draining"), "it drains")
    lab.box.instance.must("down", "--now", timeout_s=300)
    lab.box.end_if_running()
    lab.box.must_be_gone()
    asked.join(timeout=30)


def test_new_requests_are_refused_while_those_in_flight_finish(lab: Lab) -> None:
    lab.box.knobs["coder"] = TREE | {"tokens": 80, "token_s": 0.1}
    lab.box.engine = {"drain_timeout_s": 60.0}
    lab.box.start()
    bodies: list[bytes] = []
    asked = threading.Thread(target=lambda: bodies.append(lab.box.chat("coder", stream=True).body))
    asked.start()
    until(lambda: "coder" in times(lab, "request"), "the stream runs")
    lab.box.instance.must("down", "--no-wait")
    # The command returns once the controller has begun; the routers hear of it next.
    until(lambda: lab.box.chat("general").status == 503, "what is new is refused")
    assert "stopping" in lab.box.chat("general").json()["error"]["message"]
    assert asked.is_alive(), "the stream goes on"
    asked.join(timeout=60)
    assert bodies[0].endswith(b"data: [DONE]\n\n")
    lab.box.end_if_running()
    lab.box.must_be_gone()


@pytest.mark.parametrize("drain_timeout_s", [0.1, pytest.param(30.0, marks=pytest.mark.slow)])
def test_a_planned_stop_waits_while_a_neighbour_measures_its_memory(
    gpu_lab: Lab, drain_timeout_s: float
) -> None:
    """vLLM aborts its start when memory comes free meanwhile (vllm-project/vllm#56830).

    Or it takes what comes free for its cache, so the drain's own limit does not count either.
    """
    gpu_lab.box.knobs["general"] = TREE | {"load_s": 3.0}
    gpu_lab.box.engine |= {"drain_timeout_s": drain_timeout_s}
    gpu_lab.box.start(wait=False)
    until(gpu_lab.says(lambda s: s["models"][1]["state"] == "Starting"), "general loads")
    until(lambda: "general" in times(gpu_lab, "start"), "its process runs")
    gpu_lab.box.instance.must("stop", "coder")
    assert times(gpu_lab, "SIGTERM")["coder"] > times(gpu_lab, "ready")["general"]
    assert "requests were still in flight" not in gpu_lab.box.instance.must("events", "coder")


def test_a_reload_lets_the_old_engine_serve_until_its_neighbour_has_started(
    gpu_lab: Lab, tmp_path: Path
) -> None:
    box = gpu_lab.box
    box.names = ("coder", "general", "third")
    box.size = "gpu_memory_utilization = 0.25"
    box.knobs = {name: TREE | {"load_until": str(tmp_path / name)} for name in box.names}
    (tmp_path / "coder").touch()
    box.engine |= {"drain_timeout_s": 0.1, "start_timeout_s": 300.0}
    box.start(wait=False)
    until(gpu_lab.says(lambda s: s["models"][1]["state"] == "Starting"), "general loads")
    box.more["coder"] = "max_num_seqs = 7"
    box.write()
    box.instance.must("reload", "--no-wait")
    told = "serves until general has started"
    until(
        gpu_lab.says(lambda s: s["reload"]["models"].get("coder") == told), "the reload gives way"
    )
    assert box.chat("coder").status == 200
    (tmp_path / "general").touch()
    # Its turn comes before the next start, and a client is told what it waits for then.
    until(
        lambda: "waits for third on gpu0" in box.chat("coder").body.decode(),
        "what coder waits for is told to clients",
    )
    until(lambda: "third" in times(gpu_lab, "start"), "third has begun")
    asked, begun, ready = (times(gpu_lab, word) for word in ("SIGTERM", "start", "ready"))
    assert ready["general"] < asked["coder"] < begun["third"]
    assert "requests were still in flight" not in box.instance.must("events", "coder")
    (tmp_path / "third").touch()
    until(gpu_lab.says(lambda s: s["reload"]["state"] == "done"), "the reload is done")


def test_who_stops_an_engine_that_gives_way_to_a_neighbour_is_obeyed(
    gpu_lab: Lab, tmp_path: Path
) -> None:
    box = gpu_lab.box
    box.knobs["general"] = TREE | {"load_until": str(tmp_path / "loaded")}
    box.engine |= {"start_timeout_s": 300.0}
    box.start(wait=False)
    until(gpu_lab.says(lambda s: s["models"][1]["state"] == "Starting"), "general loads")
    box.more["coder"] = "max_num_seqs = 7"
    box.write()
    box.instance.must("reload", "--no-wait")
    told = "serves until general has started"
    until(
        gpu_lab.says(lambda s: s["reload"]["models"].get("coder") == told), "the reload gives way"
    )
    box.instance.must("stop", "coder", "--no-wait")
    until(gpu_lab.says(lambda s: s["models"][0]["state"] == "Draining"), "it drains")
    (tmp_path / "loaded").touch()
    until(gpu_lab.says(lambda s: s["reload"]["state"] == "done"), "the reload is done")
    assert gpu_lab.model("coder")["state"] == "Stopped"
    assert [row["event"] for row in gpu_lab.device.events() if row["model"] == "coder"].count(
        "start"
    ) == 1
