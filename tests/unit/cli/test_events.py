"""When "--since" means."""

from datetime import datetime, timedelta

import pytest

from gpuserve.cli.events import since
from gpuserve.errors import UsageError

NOW = datetime(2026, 6, 15, 12, 0, 0).astimezone()


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("30m", timedelta(minutes=30)),
        ("2h", timedelta(hours=2)),
        ("1.5 h", timedelta(hours=1.5)),
        ("1d", timedelta(days=1)),
        ("90s", timedelta(seconds=90)),
        ("11:30", timedelta(minutes=30)),
        ("12:00:01", timedelta(days=1) - timedelta(seconds=1)),
        ("2026-06-15 03:00", timedelta(hours=9)),
        ("2026-06-14", timedelta(hours=36)),
    ],
)
def test_a_moment_is_understood(text: str, ago: timedelta) -> None:
    assert since(text, NOW) == (NOW - ago).timestamp()


@pytest.mark.parametrize("text", ["", "h", "yesterday", "25:00", "-", "1w"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        since(text, NOW)
