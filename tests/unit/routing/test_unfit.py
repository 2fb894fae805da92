"""Rules against what is known of the models that they lead to."""

from dataclasses import replace

import pytest

from gpuserve.plan import Capabilities
from gpuserve.profile.load import load_text
from gpuserve.routing.unfit import unfit_routes
from tests.unit.routing.test_table import launch

BLIND = Capabilities(chat=True, tools=False, images=False, embeddings=False, max_model_len=4096)
TEXT = (
    '[[model]]\nname = "coder"\nmodel = "o/c"\n[[model]]\nname = "chat"\nmodel = "o/g"\n'
    '[[upstream]]\nname = "tei"\nurl = "http://e:1"\nmodels = ["bge"]\n'
    'capabilities = ["embeddings"]\n'
)


def found(rule: str, can: Capabilities = BLIND) -> list[tuple[str, str, bool]]:
    profile = load_text(f"{TEXT}[[route]]\n{rule}\n", path="/p.toml")
    launches = [launch(name, aliases=(), capabilities=can) for name in ("coder", "chat")]
    return [(p.where, p.message, p.warning) for p in unfit_routes(profile, launches)]


@pytest.mark.parametrize(
    ("rule", "where", "said"),
    [
        ("images = true", "images", "does not take images"),
        ("tools = true", "tools", "tool call parser"),
        ('tools = ["bash"]', "tools", "tool call parser"),
        ("min_prompt_tokens = 4096", "min_prompt_tokens", "holds 4096 tokens"),
    ],
)
def test_a_rule_that_its_model_can_never_serve_is_named(rule: str, where: str, said: str) -> None:
    ((place, message, warning),) = found(f'model = "chat"\n{rule}')
    assert place == f"route[0].{where}"
    assert said in message
    assert not warning
    # Nothing is said of what nobody knows.
    assert found(f'model = "chat"\n{rule}', Capabilities()) == []


@pytest.mark.parametrize(
    "rule", ["images = false", "tools = false", "min_prompt_tokens = 4095", 'keywords = "x"']
)
def test_a_rule_that_its_model_can_serve_is_fine(rule: str) -> None:
    assert found(f'model = "chat"\n{rule}') == []


def test_an_embedding_server_answers_no_prompt() -> None:
    ((place, message, _),) = found('model = "bge"\nkeywords = "x"')
    assert (place, "embedding" in message) == ("route[0].model", True)


def test_without_a_chat_template_a_rule_is_doubted() -> None:
    base = replace(BLIND, chat=False)
    ((place, _, warning),) = found('model = "chat"\nkeywords = "x"', base)
    assert (place, warning) == ("route[0]", True)
    assert found('model = "chat"\nkind = "fim"', base) == []
