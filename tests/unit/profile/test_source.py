"""A problem finds its line, or the line of the table that it is missing from."""

import pytest

from gpuserve.profile.source import dotted, source_of

TEXT = '[server]\nport = 1\n[[model]]\nname = "a"\n"odd.key" = 1\n[[model]]\ngpus = [\n0,\n1]\n'


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("server.port", 2),
        ("server.host", 1),
        ("model[0].name", 4),
        ('model[0]."odd.key"', 5),
        ('model[0]."other.key"', 3),
        ("model[1].gpus[1]", 9),
        ("model[1].demand.concurrency", 6),
        ("model[7].name", 3),
        ("routing.code", None),
        ("", None),
    ],
)
def test_a_place_has_the_nearest_line(where: str, line: int | None) -> None:
    source = source_of(TEXT, file="p.toml")
    assert source.line(where) == line
    problem = source.problem(where, "wrong", "do right", warning=True)
    assert (problem.file, problem.line, problem.where) == ("p.toml", line, where)
    assert problem.warning


def test_a_path_is_written_as_people_write_it() -> None:
    assert dotted(("model", 1, "env", "A.B")) == 'model[1].env."A.B"'
