"""Whatever the parser finds in a text has a line, and the line holds the key."""

import string
from typing import Any

import tomli
from hypothesis import given
from hypothesis import strategies as st

from gpuserve.profile.lines import KeyPath, key_lines

BARE = st.text(string.ascii_lowercase + "_-1", min_size=1, max_size=3)
QUOTED = st.text(st.sampled_from("ab .#[]='\té\U0001f600"), max_size=4)
SPACE = st.sampled_from(["", " ", "\t"])


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t") + '"'


key = st.one_of(
    BARE,
    QUOTED.map(quoted),
    QUOTED.filter(lambda text: "'" not in text).map(lambda text: f"'{text}'"),
)
keys = st.lists(key, min_size=1, max_size=3).map(" . ".join)
scalar = st.sampled_from(
    [
        "1",
        "-0.5e3",
        "true",
        "inf",
        "0x1F",
        "1979-05-27T07:32:00Z",
        "1979-05-27 07:32:00",
        "07:32:00",
        '"plain"',
        '"# no comment = [x]"',
        '"a \\" quote"',
        "'literal \\'",
        '"""\n[no.table]\nx = 1\n"""',
        '"""two quotes at the end"""""',
        '"""\\\n  a \\"""" """',
        "'''\n= ''\n'''''",
        '""""""',
        "''",
    ]
)


@st.composite
def array(draw: st.DrawFn, items: st.SearchStrategy[str]) -> str:
    gap = st.sampled_from(["", " ", "\n", "\n  # ] a comment\n"])
    parts = [draw(gap) + draw(items) + draw(gap) for _ in range(draw(st.integers(0, 3)))]
    return "[" + ",".join(parts) + "]"


@st.composite
def inline_table(draw: st.DrawFn, items: st.SearchStrategy[str]) -> str:
    names = draw(st.lists(key, max_size=3))
    return "{ " + ", ".join(f"{name} = {draw(items)}" for name in names) + " }"


value = st.recursive(scalar, lambda items: array(items) | inline_table(items), max_leaves=6)


@st.composite
def document(draw: st.DrawFn) -> str:
    lines = []
    for _ in range(draw(st.integers(0, 8))):
        indent, gap = draw(SPACE), draw(SPACE)
        kind = draw(st.sampled_from(["pair", "pair", "table", "array", "comment"]))
        if kind == "pair":
            lines.append(f"{indent}{draw(keys)}{gap}={gap}{draw(value)}{gap}# [x]")
        elif kind == "comment":
            lines.append(f"{indent}# a = 1 [b]")
        else:
            opening, closing = ("[", "]") if kind == "table" else ("[[", "]]")
            lines.append(f"{indent}{opening}{gap}{draw(keys)}{gap}{closing}{gap}# x = 1")
    return draw(st.sampled_from(["\n", "\r\n", "\n\n"])).join(lines)


def accepted(text: str) -> bool:
    try:
        tomli.loads(text)
    except tomli.TOMLDecodeError:
        return False
    return True


def paths(value: Any, path: KeyPath = ()) -> set[KeyPath]:
    found = {path} if path else set()
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for name, item in items:
        found |= paths(item, (*path, name))
    return found


@given(document().filter(accepted))
def test_every_path_that_the_parser_finds_has_a_line_and_no_other(text: str) -> None:
    assert set(key_lines(text)) == paths(tomli.loads(text))


@given(document().filter(accepted))
def test_the_line_of_a_key_holds_the_key(text: str) -> None:
    lines = text.split("\n")
    for path, line in key_lines(text).items():
        name = path[-1]
        if isinstance(name, str):
            held = lines[line - 1]
            assert name in held or quoted(name) in held, (path, line)


@given(document().filter(accepted), st.integers(1, 5))
def test_text_put_before_moves_every_line_by_its_own_count(text: str, count: int) -> None:
    moved = key_lines("# x\n" * count + text)
    assert moved == {path: line + count for path, line in key_lines(text).items()}
