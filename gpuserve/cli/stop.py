"""Drain a model and stop its engine; it stays stopped until it is started."""

import argparse
from typing import Any

from gpuserve.cli import verbs


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    verbs.configure(parser)


def run(args: argparse.Namespace) -> int:
    """Ask for it and wait until it is done."""
    return verbs.ask(args, "stop", _done)


def _done(model: dict[str, Any], _before: dict[str, Any]) -> bool:
    return bool(model["state"] == "Stopped")
