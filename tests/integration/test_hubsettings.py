"""What a hub says about a model that is not here: asked over real HTTP, of a server of ours."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from gpuserve.machine.hubsettings import HubRefused, HubSilent, ask_access, fetch_facts
from gpuserve.profile.spec import ModelSpec
from tests.unit.checkpoints import TINY

FILES: dict[str, bytes] = {
    "/org/whole/resolve/main/config.json": json.dumps(TINY).encode(),
    "/org/whole/resolve/main/tokenizer_config.json": b'{"chat_template": "x"}',
    "/org/whole/resolve/main/model.safetensors.index.json": json.dumps(
        {"metadata": {"total_size": 12345}}
    ).encode(),
    "/org/bare/resolve/v1/config.json": json.dumps(TINY).encode(),
    "/org/damaged/resolve/main/config.json": b"{",
}


class Hub(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/org/gated/"):
            allowed = self.headers.get("Authorization") == "Bearer secret"
            body = json.dumps(TINY).encode() if "config.json" in self.path else None
            status = 401 if not allowed else 200 if body else 404
        else:
            body = FILES.get(self.path)
            status = 404 if body is None else 200
        self.send_response(status)
        for name, code in (("/org/gated/", "GatedRepo"), ("/org/nobody/", "RepoNotFound")):
            if self.path.startswith(name):
                self.send_header("x-error-code", code)
        self.end_headers()
        if status == 200 and body is not None:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def hub() -> Iterator[dict[str, str]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}"}
    server.shutdown()
    thread.join()
    server.server_close()


def spec(model: str, revision: str | None = None, **env: str) -> ModelSpec:
    return ModelSpec(index=0, name="m", model=model, revision=revision, env=tuple(env.items()))


def test_shape_template_and_exact_size_come_from_three_small_files(hub: dict[str, str]) -> None:
    facts = fetch_facts(spec("org/whole"), hub)
    assert facts.architecture is not None
    assert facts.architecture.layers == 2
    assert facts.architecture.chat_template is True
    assert facts.tensor_bytes == 12345
    assert not facts.here


def test_a_revision_is_asked_for_and_missing_files_are_not_needed(hub: dict[str, str]) -> None:
    facts = fetch_facts(spec("org/bare", "v1"), hub)
    assert facts.architecture is not None
    assert facts.architecture.chat_template is None
    assert facts.tensor_bytes is None
    with pytest.raises(HubSilent, match=r"no config\.json"):
        fetch_facts(spec("org/bare"), hub)


def test_a_gated_model_needs_the_token(hub: dict[str, str]) -> None:
    with pytest.raises(HubRefused, match=r"gated.*answers 401") as refused:
        fetch_facts(spec("org/gated"), hub)
    assert "set HF_TOKEN" in refused.value.hint
    assert fetch_facts(spec("org/gated", HF_TOKEN="secret"), hub).architecture is not None


def test_a_damaged_answer_is_said(hub: dict[str, str]) -> None:
    with pytest.raises(HubSilent, match=r"config\.json is not JSON"):
        fetch_facts(spec("org/damaged"), hub)


def test_offline_means_that_nobody_is_asked(hub: dict[str, str]) -> None:
    with pytest.raises(HubSilent, match="HF_HUB_OFFLINE is set"):
        fetch_facts(spec("org/whole"), {**hub, "HF_HUB_OFFLINE": "1"})


def test_a_hub_that_is_away_is_said() -> None:
    with pytest.raises(HubSilent, match="cannot be reached"):
        fetch_facts(spec("org/whole"), {"HF_ENDPOINT": "http://127.0.0.1:1"})


def test_an_endpoint_that_is_no_http_address_is_not_opened() -> None:
    with pytest.raises(HubSilent, match="not an http address"):
        fetch_facts(spec("org/whole"), {"HF_ENDPOINT": "file:///etc"})


def test_access_is_asked_for_before_anything_is_fetched(hub: dict[str, str]) -> None:
    ask_access(spec("org/whole"), hub)
    ask_access(spec("org/bare"), hub)  # without that file, but there
    ask_access(spec("org/gated", HF_TOKEN="secret"), hub)
    with pytest.raises(HubRefused, match="gated"):
        ask_access(spec("org/gated"), hub)
    with pytest.raises(HubRefused, match="no such repository") as missing:
        ask_access(spec("org/nobody"), hub)
    assert "look at the name" in missing.value.hint
    with pytest.raises(HubSilent) as away:
        ask_access(spec("org/whole"), {"HF_ENDPOINT": "http://127.0.0.1:1"})
    assert not isinstance(away.value, HubRefused)
