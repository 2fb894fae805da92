"""What the documents and scripts say, against the code and the files that they speak of."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from gpuserve.cli.main import COMMANDS
from gpuserve.errors import ExitStatus
from gpuserve.profile.load import load_text
from scripts.sizing_examples import PAGE, page
from scripts.transitions import DESIGN, with_table

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DOCUMENTS = sorted(
    Path(ROOT, name)
    for name in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
)
SHELL_SCRIPTS = [
    path
    for path in [*(ROOT / "scripts").iterdir(), ROOT / ".ci" / "run"]
    if path.is_file() and path.read_bytes().startswith(b"#!/usr/bin/env bash")
]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(document: Path) -> set[str]:
    """Return the anchors of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", without_code(document.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def blocks(document: Path, language: str) -> list[str]:
    """Return its code blocks of that language."""
    text = document.read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_links_lead_to_files_and_headings_that_exist(document: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(document.read_text("utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_the_readme_is_among_the_documents() -> None:
    assert README in DOCUMENTS
    assert "what-it-looks-like" in anchors(README)


def test_the_readme_lists_every_command_and_no_other() -> None:
    listed = re.findall(r"^\| `gpuserve (\w+)", README.read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)


@pytest.mark.parametrize("document", [README, ROOT / "systemd" / "README.md"], ids=relative)
def test_commands_in_examples_exist(document: Path) -> None:
    examples = "".join(blocks(document, "sh"))
    used = re.findall(r"(?:^|/)\$?gpuserve (?:--run-dir \S+ )?(\w+)", examples, re.MULTILINE)
    assert used
    assert set(used) <= set(COMMANDS)


def test_the_readme_lists_every_exit_status() -> None:
    listed = re.findall(r"^\| (\d+) \|", README.read_text("utf-8"), re.MULTILINE)
    assert [int(number) for number in listed] == sorted(ExitStatus)


def test_the_profile_of_the_readme_is_valid() -> None:
    (toml,) = blocks(README, "toml")
    profile = load_text(toml, path="/profile.toml")
    assert [model.name for model in profile.models] == ["coder", "general"]


def test_the_worked_examples_are_those_that_the_code_computes() -> None:
    assert PAGE.read_text("utf-8") == page(), "run python -m scripts.sizing_examples"


def test_the_transition_table_of_the_design_is_the_one_of_the_code() -> None:
    text = DESIGN.read_text("utf-8")
    assert with_table(text) == text, "run python -m scripts.transitions"
    assert "| **Exited** |" in text


@pytest.mark.parametrize("script", SHELL_SCRIPTS, ids=relative)
def test_scripts_can_be_run_and_parsed(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


def test_continuous_integration_runs_what_people_run() -> None:
    assert ROOT / ".ci" / "run" in SHELL_SCRIPTS
    assert "scripts/test" in (ROOT / ".ci" / "run").read_text("utf-8")
