"""routing.json on disk, read again when it was replaced."""

import logging
import os
from pathlib import Path

from gpuserve import jsonvalues
from gpuserve.profile.spec import LimitsSpec
from gpuserve.routing.table import RoutingTable

_log = logging.getLogger("gpuserve.router")


class TableFile:
    """The last good table, from the file or from the controller; None until there is one.

    A file that cannot be read, or holds no table, changes nothing: a worker goes on serving by
    what it knows, and says so once per file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self.table: RoutingTable | None = None
        # Of the table, or what holds without one; asked for at every request.
        self.limits = LimitsSpec()
        self.allowed_origins: tuple[str, ...] = ()

    def refresh(self, *, force: bool = False) -> bool:
        """Read the file if it was replaced since (or *force*); whether there is a new table."""
        try:
            stat = os.stat(self._path)  # noqa: PTH116 - once a second for years; Path costs more
        except OSError:
            return False
        seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
        if seen == self._seen and not force:
            return False
        self._seen = seen
        try:
            table = jsonvalues.loads(RoutingTable, self._path.read_bytes())
        except (OSError, ValueError) as error:
            _log.error("%s cannot be used, going on with what is known: %s", self._path, error)
            return False
        return self.take(table)

    def take(self, table: RoutingTable) -> bool:
        """Go on with *table* unless what is known is newer; whether *table* was taken.

        A controller that could not write (a full disk) leaves an old file behind, and its
        successor counts on from that: so it is the later start that decides, then the count.
        """
        if self.table is not None and table.version < self.table.version:
            return False
        self.table = table
        self.limits = table.limits
        self.allowed_origins = table.allowed_origins
        return True
