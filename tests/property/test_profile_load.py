"""A profile is read, or refused with problems that name a place: never anything else."""

import json
import string
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gpuserve.errors import ProfileError
from gpuserve.profile.faults import KEYS
from gpuserve.profile.load import load_text

anything = st.recursive(
    st.none().map(lambda _: "1979-05-27")
    | st.booleans().map(lambda flag: "true" if flag else "false")
    | st.integers().map(str)
    | st.sampled_from(["1.5", "nan", "inf", "-1", "0"])
    | st.text(string.ascii_letters + "-._ 0\n", max_size=8).map(json.dumps)
    | st.sampled_from(['"coder"', '"50 GiB"', '"auto"', '"16k"', '["coder"]', "[0]"]),
    lambda items: (
        st.lists(items, max_size=3).map(lambda parts: f"[{', '.join(parts)}]")
        | items.map(lambda item: f"{{ context_tokens = {item} }}")
    ),
    max_leaves=4,
)


@st.composite
def profile_like(draw: st.DrawFn) -> str:
    lines = []
    for _ in range(draw(st.integers(1, 4))):
        table = draw(st.sampled_from(sorted(KEYS.keys() - {"", "model.demand", "model.pinned"})))
        double = table in {"model", "upstream"} or draw(st.integers(0, 9)) == 0
        lines.append(f"[[{table}]]" if double else f"[{table}]")
        names = draw(st.lists(st.sampled_from(sorted(KEYS[table])), unique=True, max_size=6))
        if table == "model" and draw(st.booleans()):
            lines += ['name = "coder"', 'model = "org/coder"']
            names = [name for name in names if name not in {"name", "model"}]
        lines += [f"{name} = {draw(anything)}" for name in names]
    return "\n".join(lines)


def outcome(text: str) -> Any:
    try:
        return load_text(text, path="/p.toml")
    except ProfileError as error:
        return error


@given(profile_like())
def test_a_text_gives_a_profile_or_problems_with_places(text: str) -> None:
    result = outcome(text)
    if isinstance(result, ProfileError):
        assert result.problems
        for problem in result.problems:
            assert problem.message
            assert problem.file == "/p.toml"
            assert problem.line is not None or not problem.where


@given(st.text(max_size=60))
def test_no_text_at_all_breaks_the_reader(text: str) -> None:
    result = outcome(text)
    assert not isinstance(result, ProfileError) or result.problems


@given(st.sampled_from(sorted(KEYS["model"])), anything)
def test_a_wrong_value_is_reported_under_its_own_key(name: str, value: str) -> None:
    head = {"name": '"coder"', "model": '"org/coder"'}
    head[name] = value
    text = "[[model]]\n" + "\n".join(f"{key} = {item}" for key, item in head.items())
    result = outcome(text)
    if isinstance(result, ProfileError):
        assert all(
            problem.where.startswith(f"model[0].{name}") or "GPU" in problem.message
            for problem in result.problems
        ), result.problems
