"""Every key of a TOML text has its line."""

from gpuserve.profile.lines import key_lines
from gpuserve.profile.source import dotted

TEXT = '''\
# comment with [brackets] = 1
top = 1
"quoted \\u0041.key" = 2   # another

[a.b]
c.d = { x = 1, "y z" = [1, {q = 2}] }
multi = """
[not.a.table]
e = 1 \\"""
"""""
[a]
f = [
  1,  # ]
  "]",

  [2, 3],
]
[[m]]
n = 1979-05-27 07:32:00Z
[m.sub]
k = 'lit # eral'
[[m]]
[[m.deep]]
z = \'\'\'
=\'\'\'
'''


def test_each_path_has_the_line_that_names_it() -> None:
    lines = {dotted(path): line for path, line in key_lines(TEXT).items()}
    assert lines == {
        "top": 2,
        '"quoted A.key"': 3,
        "a": 11,
        "a.b": 5,
        "a.b.c": 6,
        "a.b.c.d": 6,
        "a.b.c.d.x": 6,
        'a.b.c.d."y z"': 6,
        'a.b.c.d."y z"[0]': 6,
        'a.b.c.d."y z"[1]': 6,
        'a.b.c.d."y z"[1].q': 6,
        "a.b.multi": 7,
        "a.f": 12,
        "a.f[0]": 13,
        "a.f[1]": 14,
        "a.f[2]": 16,
        "a.f[2][0]": 16,
        "a.f[2][1]": 16,
        "m": 18,
        "m[0]": 18,
        "m[0].n": 19,
        "m[0].sub": 20,
        "m[0].sub.k": 21,
        "m[1]": 22,
        "m[1].deep": 23,
        "m[1].deep[0]": 23,
        "m[1].deep[0].z": 24,
    }


def test_windows_line_ends_count_once() -> None:
    assert key_lines("a = 1\r\nb = [\r\n2]\r\n") == {("a",): 1, ("b",): 2, ("b", 0): 3}


def test_a_text_without_keys_has_no_lines() -> None:
    assert key_lines("# nothing") == {}
