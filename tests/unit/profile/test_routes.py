"""`[[route]]` and `[routing]` in a profile: what loads, and what is said of what does not."""

import pytest

from gpuserve.errors import ProfileError
from gpuserve.profile.load import load_text

BOTH = '[[model]]\nname = "coder"\nmodel = "o/c"\n[[model]]\nname = "chat"\nmodel = "o/g"\n'
ROUTING = BOTH + '[routing]\ncode = "coder"\ngeneral = "chat"\n'


def problems(text: str) -> list[tuple[str, str, str]]:
    with pytest.raises(ProfileError) as caught:
        load_text(text, path="/p.toml")
    assert all(problem.line for problem in caught.value.problems)
    return [(p.where, p.message, p.hint or "") for p in caught.value.problems]


def test_a_rule_says_where_it_leads_and_when() -> None:
    profile = load_text(
        ROUTING + "threshold = [0.4, 0.7]\nfallback = []\nspill_over = 1\nclamp_max_tokens = true\n"
        '[[route]]\nname = "sql"\nmodel = "coder"\nkeywords = "select"\ntools = ["bash"]\n'
        'header = { "X-Team" = "data" }\n'
        '[[route]]\nmodel = "chat"\nmin_prompt_tokens = 5\ntools = false\n'
        '[[route]]\nname = "sql"\nlanguage = ["de", "fr"]\n'
        '[[route]]\nname = "code"\nsystem = "x"\n',
        path="/p.toml",
    )
    routing = profile.routing
    assert (routing.threshold, routing.fallback) == ((0.4, 0.7), ())
    assert (routing.spill_over, routing.clamp_max_tokens) == (1.0, True)
    first, second, third, fourth = routing.rules
    assert (first.name, first.model, first.keywords) == ("sql", "coder", ("select",))
    assert (first.tool_names, first.tools) == (("bash",), None)
    assert first.header == (("x-team", ("data",)),)
    assert (second.name, second.tools, second.min_prompt_tokens) == ("chat", False, 5)
    assert (third.name, third.model, third.language) == ("sql", None, ("de", "fr"))
    assert (fourth.name, fourth.model) == ("code", None)


@pytest.mark.parametrize(
    ("text", "where", "said", "hint"),
    [
        ('model = "codr"\nimages = true', "model", 'called "codr"', '"coder"'),
        ('model = "coder"', "", "no condition", "[routing] default"),
        ("images = true", "", "`model` is missing", "coder"),
        ('name = "x"\nimages = true', "", 'called "x"', "model ="),
        ('name = "code"\nmodel = "chat"\nimages = true', "model", "from [routing]", "leave it out"),
        ('name = "only"\nmodel = "chat"\nimages = true', "name", "x-gpuserve-route", "another"),
        ('name = "a b"\nmodel = "chat"\nimages = true', "name", "", ""),
        ('model = "chat"\nlanguage = "english"', "language[0]", "no code", "known"),
        ('model = "chat"\nkeywords = []', "keywords", "at least one item", ""),
        ('model = "chat"\nkeywords = " x"', "keywords[0]", "space", "whole words"),
        ('model = "chat"\ntools = []', "tools", "true, false, or names", "edit_*"),
        ('model = "chat"\nmetadata = { a = 1 }', "metadata", "expected a string", ""),
        ('model = "chat"\nheader = { "a b" = "x" }', "header", "name of a header", ""),
        ('model = "chat"\nkeyword = "x"', "keyword", "unknown key", "`keywords`"),
        ('model = "chat"\nmin_length = 4', "min_length", "unknown key", "min_prompt_tokens"),
        (
            'model = "chat"\nmin_prompt_tokens = 9\nmax_prompt_tokens = 3',
            *("max_prompt_tokens", "can never match", ""),
        ),
        ('model = "chat"\nkind = "fim"\ntools = true', "tools", "can never match", "leave out"),
        ('model = "chat"\nkind = "fim"\nlabel = "code"', "label", "can never match", "leave out"),
        ('model = "chat"\nkind = "fimm"', "kind", '"fim"', 'mean "fim"'),
        ('model = "chat"\nfallback = ["x"]\nimages = true', "fallback[0]", 'called "x"', "known"),
    ],
)
def test_a_wrong_rule_is_named_with_a_way_out(text: str, where: str, said: str, hint: str) -> None:
    place = f"route[0].{where}" if where else "route[0]"
    (found,) = problems(f"{ROUTING}[[route]]\n{text}\n")
    assert found[0] == place
    assert said in found[1]
    assert hint in found[2]


@pytest.mark.parametrize(
    ("pattern", "said", "hint"),
    [
        ("(a", "missing )", "single quotes"),
        ("(?=x)y", "invalid perl operator", "RE2"),
        (r"(a)\1", "invalid escape", "RE2"),
        ("x*", "matches every text", "say what"),
        ("y" * 1001, "at most 1000", ""),
    ],
)
def test_a_pattern_is_compiled_when_the_profile_is_checked(
    pattern: str, said: str, hint: str
) -> None:
    pytest.importorskip("re2")
    (found,) = problems(f"{ROUTING}[[route]]\nmodel = \"chat\"\nregex = ['ok', '{pattern}']\n")
    assert found[0] == "route[0].regex[1]"
    assert said in found[1]
    assert hint in found[2]


@pytest.mark.parametrize(
    ("line", "where", "said"),
    [
        ("threshold = 1.5", "threshold", "less than 1"),
        ("threshold = 0", "threshold", "more than 0"),
        ('threshold = "x"', "threshold", "a probability"),
        ("threshold = [0.7, 0.4]", "threshold", "smaller"),
        ("threshold = [0.1, 0.2, 0.3]", "threshold", "two"),
        ("spill_over = 0", "spill_over", "more than 0"),
        ('fallback = ["codr"]', "fallback[0]", 'called "codr"'),
        ('fallback = "coder"', "fallback", "an array"),
        ("clamp_max_tokens = 1", "clamp_max_tokens", "true or false"),
    ],
)
def test_a_wrong_line_of_routing_is_named(line: str, where: str, said: str) -> None:
    (found,) = problems(f"{ROUTING}{line}\n")
    assert found[0] == f"routing.{where}"
    assert said in found[1]


@pytest.mark.parametrize(
    ("wide", "narrow", "shadowed"),
    [
        ("images = true", "images = true\ntools = true", True),
        ("images = true", "images = false", False),
        ('keywords = ["a", "b"]', 'keywords = "a"', True),
        ('keywords = "a"', 'keywords = ["a", "b"]', False),
        ('keywords = "a"\nscope = "turn"', 'keywords = "a"', False),
        ('keywords = "a"', 'keywords = "a"\nscope = "turn"', True),
        ("min_prompt_tokens = 5", "min_prompt_tokens = 9", True),
        ("min_prompt_tokens = 9", "min_prompt_tokens = 5", False),
        ("max_prompt_tokens = 9", "max_prompt_tokens = 5\nimages = true", True),
        ("tools = true", 'tools = ["a"]', True),
        ('tools = ["a"]', "tools = true", False),
        ('header = { a = ["x", "y"] }', 'header = { a = "x", b = "z" }', True),
        ('header = { a = "x" }', 'header = { b = "x" }', False),
        ('metadata = { a = "*" }', 'metadata = { b = "x" }', False),
    ],
)
def test_a_rule_behind_one_that_takes_everything_of_its_is_named(
    wide: str, narrow: str, shadowed: bool
) -> None:
    text = (
        f'{ROUTING}[[route]]\nname = "w"\nmodel = "coder"\n{wide}\n'
        f'[[route]]\nname = "n"\nmodel = "chat"\n{narrow}\n'
    )
    if not shadowed:
        assert len(load_text(text, path="/p.toml").routing.rules) == 2
        return
    (found,) = problems(text)
    assert found[0] == "route[1]"
    assert "can never match: route[0] (line 10) takes" in found[1]


def test_a_route_has_one_model() -> None:
    text = (
        f'{ROUTING}[[route]]\nname = "x"\nmodel = "coder"\nimages = true\n'
        '[[route]]\nname = "x"\nmodel = "chat"\ntools = true\n'
    )
    (found,) = problems(text)
    assert found[0] == "route[1].model"
    assert "from the [[route]] above" in found[1]


def test_a_refused_condition_does_not_make_a_rule_without_one() -> None:
    (found,) = problems(f'{ROUTING}[[route]]\nmodel = "coder"\nimages = "yes"\n')
    assert found[0] == "route[0].images"


def test_a_default_may_stand_alone_where_there_are_rules() -> None:
    rule = '[[route]]\nmodel = "coder"\nimages = true\n'
    profile = load_text(f'{BOTH}[routing]\ndefault = "chat"\n{rule}', path="/p.toml")
    assert (profile.routing.code, profile.routing.default) == (None, "chat")
    assert [where for where, _, _ in problems(f'{BOTH}[routing]\ndefault = "chat"\n')] == [
        "routing.code",
        "routing.general",
    ]


def test_a_server_elsewhere_says_what_it_can_do() -> None:
    server = '[[upstream]]\nname = "x"\nurl = "http://x"\nmodels = ["m"]\n'
    spec = load_text(f'{server}capabilities = ["chat", "tools"]\nmax_model_len = 9', path="/p")
    assert spec.upstreams[0].capabilities == ("chat", "tools")
    assert spec.upstreams[0].max_model_len == 9
    (found,) = problems(f'{server}capabilities = ["image"]\n')
    assert (found[0], found[2]) == ("upstream[0].capabilities[0]", 'did you mean "images"?')
