"""`python -m gpuserve`."""

import sys

from gpuserve.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
