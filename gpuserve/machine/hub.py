"""Fetches a model's files from the Hugging Face hub into its cache.

What is complete stays, so a fetch that failed goes on with the files that are missing; within a
file huggingface_hub takes up a broken connection where it broke. Nothing here is imported by
those who only ask whether weights are here: see `weights`.
"""

import errno
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from gpuserve.errors import GpuserveError, HostUnavailable, TryLater
from gpuserve.machine.surroundings import disk_of
from gpuserve.machine.weights import (
    RepositoryFile,
    hub_cache,
    small_files,
    weight_files,
    weights_here,
)
from gpuserve.preconditions.host import SPARE_BYTES
from gpuserve.units import gib

__all__ = ["Progress", "Wanted", "fetch", "free_bytes", "offline", "weights_here"]

# Files that nobody wrote to for so long belong to a fetch that was killed.
_ABANDONED_S = 3600.0
_NETWORK_LIBRARIES = {"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What one model needs from the hub. `weights` False: its small files only."""

    repository: str
    revision: str | None = None
    load_format: str | None = None
    weights: bool = True
    token: str | None = None
    endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a fetch is; what was here before counts as done."""

    done_bytes: int
    total_bytes: int


def offline(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the variable that forbids the network to the hub's library, or None."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if environment.get(name, "").upper() in {"1", "ON", "YES", "TRUE"}:
            return name
    return None


def free_bytes(path: Path) -> int:
    """Return the free bytes of the file system that *path* is, or will be, on."""
    return disk_of(path).free_bytes


def fetch(
    wanted: Wanted,
    report: Callable[[Progress], None],
    *,
    free: Callable[[Path], int] = free_bytes,
    interval_s: float = 0.5,
) -> None:
    """Bring the files of *wanted* here, telling *report* every *interval_s* how far it is.

    Raises HostUnavailable when trying again changes nothing (offline, no such repository, no
    access, no room) and TryLater when it may (network, a busy hub).
    """
    forbidden = offline()
    if forbidden is not None:
        raise HostUnavailable(
            f'"{wanted.repository}" is not in the cache {hub_cache()}, and {forbidden} is set',
            hint="where there is a network, with the same cache: "
            f"hf download {_spelled(wanted)} --cache-dir {hub_cache()}",
        )
    try:
        _fetch(wanted, report, free, interval_s)
    except GpuserveError:
        raise
    except Exception as error:
        known = _in_our_words(error, wanted)
        if known is None:
            raise
        raise known from error


def _fetch(
    wanted: Wanted,
    report: Callable[[Progress], None],
    free: Callable[[Path], int],
    interval_s: float,
) -> None:
    # Its own bars and warnings would mix with our progress; read when it is imported.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    api = HfApi(endpoint=wanted.endpoint, token=wanted.token)
    tree = api.list_repo_tree(wanted.repository, revision=wanted.revision, recursive=True)
    files = [_file(entry) for entry in tree if isinstance(entry, RepoFile)]
    small = small_files(files)
    folder = Path(_download(api, wanted, small))
    chosen = weight_files(files, folder, wanted.load_format) if wanted.weights else []
    if wanted.weights and not chosen and wanted.load_format != "dummy":
        raise HostUnavailable(
            f'"{wanted.repository}" holds no weights that vLLM loads '
            "(safetensors, bin or pt files at its top)",
            hint="name a repository of a model in Hugging Face's format",
        )
    blobs = folder.parent.parent / "blobs"
    wait = _Wait(blobs, small + chosen, report, interval_s)
    _check_room(wanted, blobs, wait.progress(), free)
    wait.until_done(lambda: _download(api, wanted, chosen))


def _download(api: Any, wanted: Wanted, files: list[RepositoryFile]) -> str:
    # The revision as it was asked for, not the commit: so the cache's refs name it, and an
    # engine without a network finds it.
    folder: str = api.snapshot_download(
        wanted.repository,
        revision=wanted.revision,
        cache_dir=hub_cache(),
        allow_patterns=[escape(file.path) for file in files] or ["config.json"],
    )
    return folder


class _Wait:
    """Watches the cache's files grow while a thread downloads."""

    def __init__(
        self,
        blobs: Path,
        files: list[RepositoryFile],
        report: Callable[[Progress], None],
        interval_s: float,
    ) -> None:
        self._blobs = blobs
        self._files = {file.blob: file.size_bytes for file in files}
        self._report = report
        self._interval_s = interval_s
        abandoned_at = time.time() - _ABANDONED_S
        self._drop_pieces(lambda written_at: written_at < abandoned_at)

    def progress(self) -> Progress:
        done = sum(self._here(blob, size) for blob, size in self._files.items())
        return Progress(done, sum(self._files.values()))

    def until_done(self, download: Callable[[], object]) -> None:
        failed: list[BaseException] = []

        def work() -> None:
            try:
                download()
            except BaseException as error:  # noqa: BLE001 - raised again by the waiting thread
                failed.append(error)

        # A daemon, because an interrupted command must not wait for 5 GB to arrive.
        thread = threading.Thread(target=work, name="download", daemon=True)
        began_at = time.time() - 1.0  # file systems round
        thread.start()
        try:
            while thread.is_alive():
                self._report(self.progress())
                thread.join(self._interval_s)
        except KeyboardInterrupt:
            self._drop_pieces(lambda written_at: written_at >= began_at)
            raise
        if failed:
            raise failed[0]
        self._report(self.progress())

    def _here(self, blob: str, size: int) -> int:
        if (self._blobs / blob).exists():
            return size
        # huggingface_hub writes BLOB.incomplete, or BLOB.RANDOM.incomplete since 1.0.
        growing = [_size(path) for path in self._blobs.glob(f"{blob}*.incomplete")]
        return min(max(growing, default=0), size)

    def _drop_pieces(self, chosen: Callable[[float], bool]) -> None:
        """Remove the pieces that nobody will take up, if *chosen* says so of their last write.

        Those with a random part in their name: each fetch begins its own.
        """
        for blob in self._files:
            for path in self._blobs.glob(f"{blob}.*.incomplete"):
                try:
                    if chosen(path.stat().st_mtime):
                        path.unlink()
                except OSError:
                    continue  # moved to its place, or another fetch was quicker


def _check_room(
    wanted: Wanted, blobs: Path, progress: Progress, free: Callable[[Path], int]
) -> None:
    missing = progress.total_bytes - progress.done_bytes
    there = free(blobs)
    if missing and missing + SPARE_BYTES > there:
        raise HostUnavailable(
            f'"{wanted.repository}" needs {gib(missing)} more on disk '
            f"and {gib(SPARE_BYTES)} to spare; {hub_cache()} has {gib(there)} free",
            hint="make room there, or set HF_HOME to a larger disk",
        )


def _in_our_words(error: Exception, wanted: Wanted) -> GpuserveError | None:
    from huggingface_hub import errors

    name = f'"{wanted.repository}"'
    if isinstance(error, errors.GatedRepoError):
        return HostUnavailable(
            f"{name} is gated: its owner wants an agreement first",
            hint=f"agree at https://huggingface.co/{wanted.repository}, then set HF_TOKEN",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return HostUnavailable(f'{name} has no revision "{wanted.revision}"')
    if isinstance(error, errors.RepositoryNotFoundError):
        return HostUnavailable(
            f"the hub has no repository {name}, or does not show it to you",
            hint="look at the name; for a private repository set HF_TOKEN",
        )
    if isinstance(error, errors.HFValidationError):
        return HostUnavailable(f"{name} is neither a directory here nor a hub id")
    if isinstance(error, errors.HfHubHTTPError) and error.response is not None:
        return _http_failure(int(error.response.status_code), name)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return HostUnavailable(f"the disk of {hub_cache()} is full", hint="make room there")
    if isinstance(error, PermissionError):
        return HostUnavailable(f"{hub_cache()} cannot be written: {error.strerror}")
    library = type(error).__module__.split(".")[0]
    # LocalEntryNotFoundError is what remains of a failed request after its retries.
    transient = (ConnectionError, TimeoutError, errors.LocalEntryNotFoundError)
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, transient) or library in {*_NETWORK_LIBRARIES, "hf_xet"}:
        return TryLater(f"{name} could not be fetched: {said}", hint="what is complete stays")
    if isinstance(error, OSError):  # what is left over, such as a file shorter than announced
        return TryLater(f"{name} could not be fetched: {said}", hint="what is complete stays")
    return None


def _http_failure(status: int, name: str) -> GpuserveError:
    if status == 401:
        return HostUnavailable(
            f"{name} does not exist, or is private and wants a token (HTTP 401)",
            hint="look at the name; for a private repository set HF_TOKEN",
        )
    if status == 403:
        return HostUnavailable(f"the hub refuses {name} (HTTP {status})", hint="set HF_TOKEN")
    if status in {408, 425, 429} or status >= 500:
        return TryLater(f"the hub cannot serve {name} now (HTTP {status})")
    return HostUnavailable(f"the hub answers HTTP {status} for {name}")


def _file(entry: Any) -> RepositoryFile:
    # The cache names a large file by its SHA-256 and a small one by its git id.
    blob = entry.lfs.sha256 if entry.lfs else entry.blob_id
    return RepositoryFile(entry.path, int(entry.size), str(blob))


def _spelled(wanted: Wanted) -> str:
    return wanted.repository + (f" --revision {wanted.revision}" if wanted.revision else "")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # moved to its place meanwhile
        return 0
