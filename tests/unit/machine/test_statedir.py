"""Where what outlives a boot is kept."""

from pathlib import Path

import pytest

from gpuserve.machine.statedir import usual


@pytest.mark.parametrize(
    ("run_dir", "environ", "expected"),
    [
        ("/run/gpuserve", {"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, "/var/lib/a"),
        ("/run/gpuserve", {}, "/var/lib/gpuserve"),
        (
            "/run/user/7/gpuserve",
            {"XDG_RUNTIME_DIR": "/run/user/7"},
            "/home/u/.local/state/gpuserve",
        ),
        ("/run/user/7/x", {"XDG_RUNTIME_DIR": "/run/user/7", "XDG_STATE_HOME": "/s"}, "/s/x"),
        ("/srv/gpuserve", {"XDG_RUNTIME_DIR": "/run/user/7"}, "/srv/gpuserve"),
    ],
)
def test_a_run_directory_in_memory_has_its_state_on_disk(
    run_dir: str, environ: dict[str, str], expected: str
) -> None:
    assert usual(Path(run_dir), environ, Path("/home/u")) == Path(expected)
