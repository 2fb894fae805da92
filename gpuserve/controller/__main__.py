"""`python -m gpuserve.controller RUN_DIR`: what the keeper runs to carry out the plan."""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from aiohttp import web

from gpuserve import jsonvalues
from gpuserve.controller.api import application
from gpuserve.controller.run import Controller
from gpuserve.machine import instance
from gpuserve.machine.kernel import die_with_parent
from gpuserve.machine.voice import Voice
from gpuserve.plan import Plan
from gpuserve.rundir import RunDir


def main() -> int:
    """Carry out plan.json until told to end; return the exit status."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    run_dir = RunDir(Path(sys.argv[1]))
    die_with_parent(signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    found = instance.read(run_dir)
    if found is None or found.keeper_pid != os.getppid():
        wrong = f"{run_dir.instance} does not name our keeper (pid {os.getppid()})"
        print(wrong, file=sys.stderr)
        return 70
    try:
        plan = jsonvalues.loads(Plan, run_dir.plan.read_bytes())
    except (OSError, ValueError) as error:
        # Torn, or of a version that this one does not understand. Engines and routers go on.
        Voice(found.keeper_pid).say(
            f"cannot carry on the plan in {run_dir.plan}: {error}. Models go on without a "
            "controller: none is restarted. `gpuserve down` and `up` plan anew",
            "error",
        )
        return 70
    return asyncio.run(_run(Controller(run_dir, plan, found)))


async def _run(controller: Controller) -> int:
    socket = controller.run_dir.control_socket
    runner = web.AppRunner(application(controller), access_log=None)
    await runner.setup()

    async def open_api() -> None:
        socket.unlink(missing_ok=True)
        await web.UnixSite(runner, str(socket)).start()

    try:
        return await controller.run(open_api)
    finally:
        await runner.cleanup()
        socket.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
