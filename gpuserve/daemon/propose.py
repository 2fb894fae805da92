"""`python -m gpuserve.daemon.propose RUN_DIR PROFILE`: the plan that a reload would put in force.

A process of its own, so that what hangs or fails while a profile is checked harms no controller,
and in the controller's environment, which is the engines'. Prints one JSON object.
"""

import json
import os
import sys
from pathlib import Path

from gpuserve import jsonvalues
from gpuserve.errors import ExitStatus, GpuserveError, Problem
from gpuserve.machine.kernel import die_with_parent
from gpuserve.plan import Plan
from gpuserve.prepare import Prepared, prepare
from gpuserve.rundir import RunDir


def propose(run_dir: RunDir, profile: Path, running: Plan) -> Prepared:
    """Return the plan for *profile* that leaves the engines of *running* alone where it can.

    If it does not fit beside what they hold, the one that shares the memory out anew.
    """
    beside = prepare(profile, run_dir=run_dir.path, environment=os.environ, running=running)
    if beside.exit_status == ExitStatus.DONE:
        return beside
    return prepare(profile, run_dir=run_dir.path, environment=os.environ)


def main() -> int:
    """Print the proposal; the exit status is 0 even if it is refused."""
    import signal

    die_with_parent(signal.SIGKILL)
    run_dir = RunDir(Path(sys.argv[1]))
    running = jsonvalues.loads(Plan, run_dir.plan.read_bytes())
    try:
        found = propose(run_dir, Path(sys.argv[2]), running)
    except GpuserveError as error:
        problem = Problem(message=error.message, hint=error.hint)
        found = Prepared(plan=None, problems=(problem,), exit_status=error.exit_status)
    answer = {
        "exit_status": int(found.exit_status),
        "problems": jsonvalues.plain(found.problems),
        "plan": jsonvalues.plain(found.plan),
    }
    sys.stdout.write(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
