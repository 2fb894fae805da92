"""The page for operators names every event and every cause that there is, and no other."""

import re
from pathlib import Path

from gpuserve.lifecycle import endings
from gpuserve.lifecycle.audit import NOTIFIABLE, TOLD_BY_DEFAULT
from gpuserve.lifecycle.states import STATES
from gpuserve.profile.load import load_text

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")


def test_every_event_that_can_be_told_is_listed_with_its_meaning() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (yes)? ?\|$", PAGE, re.MULTILINE)
    assert {event: words for event, words, _ in rows} == NOTIFIABLE
    assert {event for event, _, yes in rows if yes} == set(TOLD_BY_DEFAULT)


def test_every_cause_of_an_end_is_listed() -> None:
    source = Path(endings.__file__).read_text("utf-8")
    section = PAGE.partition("## When an engine ends unasked")[2].partition("\n## ")[0]
    first = re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
    listed = {word for cell in first for word in re.findall(r"`(\w+)`", cell)}
    known = {wording.cause for wording in endings._WORDINGS}
    known |= set(re.findall(r'return "(\w+)", "', source)) | {"wedged"}
    known |= {"shim_killed", "killed", "crashed", "engine_core_died", "exit"}
    assert listed == known


def test_every_state_is_described() -> None:
    for state in STATES:
        assert state.__name__ in PAGE


def test_its_profile_lines_are_valid() -> None:
    (lines,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    model = '[[model]]\nname = "a"\nmodel = "org/a"\n'
    assert len(load_text(model + lines, path="/p.toml").on_event) == 2
