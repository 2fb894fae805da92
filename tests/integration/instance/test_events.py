"""What is told of decisions: by `gpuserve events`, also afterwards."""

import json
import os
import signal

from tests.e2e.instance import until
from tests.integration.instance.conftest import Box


def test_why_an_engine_was_restarted_is_told_in_one_command_also_after_the_end(box: Box) -> None:
    box.start()
    os.kill(box.instance.model("coder")["pid"], signal.SIGKILL)
    until(lambda: box.instance.model("coder")["restarts"] == 1, "it is restarted")
    box.instance.must("wait", "--timeout", "20")
    box.instance.must("stop", "general")
    box.instance.must("down")
    assert box.instance.gpuserve("status").returncode == 3

    rows = [json.loads(line) for line in box.instance.must("events", "--json").splitlines()]
    coder = [row for row in rows if row.get("model") == "coder"]
    moves = [(row.get("before"), row.get("after")) for row in coder]
    assert ("Ready", "Unready") in moves
    (failed,) = (row for row in coder if row["event"] == "backing_off")
    assert failed["why"] == "killed by SIGKILL"
    assert failed["figures"]["failures"] == 1
    assert "next_try_s" in failed["figures"]
    assert [row["event"] for row in coder].count("recovered") == 1
    (asked,) = (
        row for row in rows if row.get("cause") == "operator" and row["after"] == "Draining"
    )
    assert asked["figures"]["uid"] == os.getuid()

    told = box.instance.must("events", "coder", "-n", "100")
    assert "killed by SIGKILL" in told
    assert "general" not in told
    assert box.instance.must("events", "-n", "1").count("\n") == 1
    assert box.instance.must("events", "--since", "1h").count("\n") == len(rows)


def test_events_of_nobody_are_refused_with_the_names(running: Box) -> None:
    refused = running.instance.gpuserve("events", "codr")
    assert refused.returncode == 2
    assert "coder" in refused.stderr
    assert running.instance.must("events", "coder-alias") == running.instance.must(
        "events", "coder"
    )


def test_events_without_an_instance_say_so(box: Box) -> None:
    done = box.instance.gpuserve("events")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
