"""`python -m gpuserve.shim RUN_DIR NAME`: what the keeper runs for each engine."""

import sys
from pathlib import Path

from gpuserve.rundir import RunDir
from gpuserve.shim.run import Shim, read_launch


def main() -> int:
    """Run the engine NAME until nothing of it is left; return its exit status."""
    if len(sys.argv) != 3:
        print("usage: python -m gpuserve.shim RUN_DIR NAME", file=sys.stderr)
        return 2
    run_dir, name = RunDir(Path(sys.argv[1])), sys.argv[2]
    try:
        launch = read_launch(run_dir.launch(name))
    except (OSError, ValueError, KeyError) as error:
        print(f"shim: cannot read {run_dir.launch(name)}: {error}", file=sys.stderr)
        return 70
    return Shim(launch, run_dir.engine_status(name), run_dir.engine_log(name)).run()


if __name__ == "__main__":
    sys.exit(main())
