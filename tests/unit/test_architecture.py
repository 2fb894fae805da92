"""Imports point down, decisions are pure, and what must survive stands on its own."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "gpuserve"
MODULES = sorted(PACKAGE.rglob("*.py"))

# What a decision may not know: time, chance, the disk, other processes, the network, a log.
IMPURE = [
    "asyncio",
    "datetime",
    "fcntl",
    "logging",
    "multiprocessing",
    "os",
    "random",
    "secrets",
    "select",
    "shutil",
    "signal",
    "socket",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib.request",
    "http.client",
    "xmlrpc",
    "aiohttp",
    "huggingface_hub",
    "psutil",
    "pynvml",
    "rich",
    "supervisor",
    "uvloop",
]
STANDARD_LIBRARY_ONLY = ("gpuserve.shim", "gpuserve.watch")


def module_name(path: Path) -> str:
    words = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(words[:-1] if words[-1] == "__init__" else words)


def layers() -> dict[str, int]:
    """Return module prefix → layer, as DESIGN.md has it."""
    text = (ROOT / "DESIGN.md").read_text(encoding="utf-8")
    table = text.partition("<!-- layers -->")[2].partition("<!-- end of layers -->")[0]
    rows = re.findall(r"^\| (\d) \|.*\|(.*)\|$", table, re.MULTILINE)
    return {
        f"gpuserve.{name}": int(n) for n, names in rows for name in re.findall("`(.+?)`", names)
    }


LAYERS = layers()


def layer(name: str) -> int | None:
    """Return the layer of a module, None for the bare package, which holds the version."""
    while name not in LAYERS:
        name, dot, _ = name.rpartition(".")
        if not dot:
            return None
    return LAYERS[name]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of each import, also of those inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = (ROOT / Path(*whole.split("."))).with_suffix(".py").is_file()
                yield node.lineno, whole if is_module else node.module


by_module = pytest.mark.parametrize("path", MODULES, ids=module_name)
decisions = [path for path in MODULES if layer(module_name(path)) in (0, 1)]


def test_the_layer_table_is_found_and_complete() -> None:
    assert {0, 1, 2, 3, 4, 5} == set(LAYERS.values())
    homeless = [module_name(path) for path in MODULES if layer(module_name(path)) is None]
    assert homeless == ["gpuserve"], "put these into the table of DESIGN.md"


def test_every_name_of_the_layer_table_exists() -> None:
    names = {module_name(path) for path in MODULES}
    assert [name for name in LAYERS if name not in names] == []


@by_module
def test_imports_point_down(path: Path) -> None:
    own = layer(module_name(path)) or 0
    upward = [
        f"{path.relative_to(ROOT)}:{line}: layer {own} imports {name} of layer {other}"
        for line, name in imports(path)
        if name.startswith("gpuserve") and (other := layer(name)) is not None and other > own
    ]
    assert upward == []


@pytest.mark.parametrize("path", decisions, ids=module_name)
def test_decisions_are_pure(path: Path) -> None:
    impure = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for line, name in imports(path)
        if any(f"{name}.".startswith(f"{module}.") for module in IMPURE)
    ]
    assert impure == []


@pytest.mark.parametrize("start", STANDARD_LIBRARY_ONLY)
def test_what_must_outlive_the_rest_needs_the_standard_library_alone(start: str) -> None:
    todo = [path for path in MODULES if module_name(path).startswith(start)]
    assert todo
    seen: set[Path] = set()
    foreign: list[str] = []
    while todo:
        path = todo.pop()
        seen.add(path)
        for line, name in imports(path):
            if name.split(".")[0] == "gpuserve":
                todo += [p for p in MODULES if module_name(p) == name and p not in seen]
            elif name.split(".")[0] not in sys.stdlib_module_names:
                foreign.append(f"{path.relative_to(ROOT)}:{line}: {name}")
    assert foreign == []


@by_module
def test_every_module_says_what_it_knows(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    empty_package = path.name == "__init__.py" and not tree.body
    assert empty_package or (ast.get_docstring(tree) or "").strip()


def test_the_rules_can_fail(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text("def f():\n    import os.path\n    from gpuserve.cli import main\n")
    assert list(imports(wrong)) == [(2, "os.path"), (3, "gpuserve.cli.main")]
    assert (layer("gpuserve.lifecycle.step"), layer("gpuserve.cli.main")) == (1, 5)
