"""`python -m gpuserve.watch RUN_DIR`: replaces a hung controller. Standard library only.

An event listener of supervisord: it is woken every 5 s (TICK_5), which proves that the
keeper's loop turns, and feeds systemd's watchdog with that. When the controller's heartbeat
is stale it kills that process, after making sure that it is still the controller, and the
keeper starts a new one, which adopts the engines. It does nothing else, so that it cannot hang.
"""

import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from gpuserve.machine.kernel import die_with_parent
from gpuserve.machine.processes import same
from gpuserve.machine.systemd import notifier
from gpuserve.rundir import RunDir

STALE_S = 20.0


def main() -> int:
    """Answer events until the keeper ends."""
    heartbeat = RunDir(Path(sys.argv[1])).heartbeat
    die_with_parent(signal.SIGKILL)
    if os.getppid() == 1:
        return 0
    service = notifier()
    while True:
        sys.stdout.write("READY\n")
        sys.stdout.flush()
        header = sys.stdin.readline()
        if not header:
            return 0
        fields = dict(pair.split(":", 1) for pair in header.split())
        sys.stdin.read(int(fields["len"]))
        service.ping_watchdog()
        replace_if_hung(heartbeat, time.monotonic())
        sys.stdout.write("RESULT 2\nOK")
        sys.stdout.flush()


def replace_if_hung(heartbeat: Path, now_s: float) -> bool:
    """Kill the controller that wrote *heartbeat* if it is older than STALE_S; say whether."""
    try:
        found = json.loads(heartbeat.read_text(encoding="ascii"))
        pid, ticks, beat_s = int(found["pid"]), int(found["start_ticks"]), float(found["at_s"])
    except (OSError, ValueError, KeyError, TypeError):
        return False  # no heartbeat yet: nothing to compare with
    if now_s - beat_s < STALE_S or not same(pid, ticks):
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    print(
        f"the controller (pid {pid}) did not answer for {now_s - beat_s:.0f} s: killed it",
        file=sys.stderr,
        flush=True,
    )
    return True


if __name__ == "__main__":
    sys.exit(main())
