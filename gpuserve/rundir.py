"""The run directory: every file that the processes of one instance share, by name.

Mode 0700, owned by the user who runs the instance. Sockets live in `sockets`, which is the
run directory itself unless its path is too long for a Unix socket address.
"""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

# sockaddr_un.sun_path holds 108 bytes with its terminating zero (unix(7)); the longest name
# that is put into the directory is `engines/NAME.sock`.
SUN_PATH_BYTES = 107
LONGEST_NAME_CHARS = 64


@dataclass(frozen=True, slots=True)
class RunDir:
    """Paths below one run directory, which is absolute. Nothing here touches the disk."""

    path: Path

    @property
    def sockets(self) -> Path:
        """Where the sockets live: here, or in /tmp under a name derived from this path."""
        longest = self.path / "engines" / ("x" * LONGEST_NAME_CHARS + ".sock")
        if len(str(longest).encode()) <= SUN_PATH_BYTES:
            return self.path
        digest = sha256(str(self.path).encode()).hexdigest()[:16]
        return Path("/tmp") / f"gpuserve-{digest}"  # noqa: S108 - made 0700 and checked for its owner

    @property
    def instance(self) -> Path:
        """instance.json: the keeper's pid and start time, the profile, the endpoint's URL."""
        return self.path / "instance.json"

    @property
    def lock(self) -> Path:
        """Held (flock) by `up` only while it looks whether an instance runs."""
        return self.path / "lock"

    @property
    def plan(self) -> Path:
        """plan.json: the plan in force."""
        return self.path / "plan.json"

    @property
    def previous(self) -> Path:
        """previous.json: the plan to go back to, while engines start with a new one."""
        return self.path / "previous.json"

    @property
    def routing(self) -> Path:
        """routing.json: what the router workers route by; replaced atomically."""
        return self.path / "routing.json"

    @property
    def keeper_conf(self) -> Path:
        """keeper.conf: supervisord's configuration."""
        return self.path / "keeper.conf"

    @property
    def keeper_socket(self) -> Path:
        """supervisord's XML-RPC socket."""
        return self.sockets / "keeper.sock"

    @property
    def control_socket(self) -> Path:
        """The controller's own HTTP API, for the commands."""
        return self.sockets / "control.sock"

    @property
    def heartbeat(self) -> Path:
        """heartbeat: touched by the controller's main loop, read by watch."""
        return self.path / "heartbeat"

    @property
    def families(self) -> Path:
        """families.json: the processes of the engines, for whoever comes after a crash."""
        return self.path / "families.json"

    @property
    def logs(self) -> Path:
        """Log files of keeper, controller, routers and engines."""
        return self.path / "logs"

    def router_socket(self, slot: int) -> Path:
        """The control socket of the router process in *slot*."""
        return self.sockets / "routers" / f"{slot}.sock"

    def launch(self, name: str) -> Path:
        """launches/NAME.json: argv and environment of an engine, mode 0600."""
        return self.path / "launches" / f"{name}.json"

    def engine_socket(self, name: str) -> Path:
        """The Unix socket that an engine listens on."""
        return self.sockets / "engines" / f"{name}.sock"

    def engine_status(self, name: str) -> Path:
        """engines/NAME.json: what the shim says about the engine it runs, or ran."""
        return self.path / "engines" / f"{name}.json"

    def engine_log(self, name: str) -> Path:
        """logs/engines/NAME.log: the engine's own output."""
        return self.logs / "engines" / f"{name}.log"
