"""Start a model that was stopped, drained or has Failed."""

import argparse
from typing import Any

from gpuserve.cli import verbs


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    verbs.configure(parser)


def run(args: argparse.Namespace) -> int:
    """Ask for it and wait until it is done."""
    return verbs.ask(args, "start", _done)


def _done(model: dict[str, Any], _before: dict[str, Any]) -> bool:
    return bool(model["ready"])
