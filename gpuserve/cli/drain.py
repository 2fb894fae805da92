"""Stop sending requests to a model and wait for those in flight; its engine stays up."""

import argparse
from typing import Any

from gpuserve.cli import verbs


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    verbs.configure(parser)


def run(args: argparse.Namespace) -> int:
    """Ask for it and wait until it is done."""
    return verbs.ask(args, "drain", _done)


def _done(model: dict[str, Any], _before: dict[str, Any]) -> bool:
    return bool(model["state"] == "Draining" and model["reason"] == "drained")
