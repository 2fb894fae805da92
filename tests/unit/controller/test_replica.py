"""How an end is told."""

import pytest

from gpuserve.controller.replica import end_reason
from gpuserve.shim.status import EngineStatus


def ended(
    code: int | None = None, signal: int | None = None, error: str | None = None
) -> EngineStatus:
    return EngineStatus(
        launch_id="1",
        name="a",
        shim_pid=1,
        shim_start_ticks=1,
        ended_unix_s=1.0,
        exit_code=code,
        exit_signal=signal,
        last_error=error,
    )


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (None, "its shim was killed"),
        (ended(1, error="ValueError: no"), "exited with status 1: ValueError: no"),
        (ended(0), "exited with status 0 without being asked"),
        (ended(signal=9), "killed by SIGKILL"),
        (ended(signal=63), "killed by signal 63"),
    ],
)
def test_an_end_is_told_with_its_cause(status: EngineStatus | None, reason: str) -> None:
    assert end_reason(status) == reason
