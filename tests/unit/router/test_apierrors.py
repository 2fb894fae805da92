import json

import pytest

from gpuserve.router.apierrors import Api, api_of, error_body, error_event, error_response
from gpuserve.routing.choose import Refusal

REFUSAL = Refusal(status=503, code="model_not_ready", message="no", retry_after_s=0.2)


@pytest.mark.parametrize(
    ("path", "api"),
    [
        ("/v1/messages", "anthropic"),
        ("/v1/messages/count_tokens", "anthropic"),
        ("/v1/responses", "responses"),
        ("/v1/chat/completions", "openai"),
        ("/nowhere", "openai"),
    ],
)
def test_the_path_tells_whose_shape_an_error_has(path: str, api: Api) -> None:
    assert api_of(path) == api


@pytest.mark.parametrize("api", ["openai", "responses"])
def test_openais_error_has_its_four_fields(api: Api) -> None:
    assert error_body(api, REFUSAL) == {
        "error": {
            "message": "no",
            "type": "server_error",
            "param": None,
            "code": "model_not_ready",
        }
    }


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (413, "request_too_large"),
        (502, "api_error"),
        (503, "overloaded_error"),
    ],
)
def test_anthropics_error_names_its_type_by_status(status: int, kind: str) -> None:
    body = error_body("anthropic", Refusal(status=status, code="x", message="m"))
    assert body == {"type": "error", "error": {"type": kind, "message": "m"}}


@pytest.mark.parametrize("api", ["openai", "responses", "anthropic"])
def test_an_error_event_is_one_whole_event(api: Api) -> None:
    event = error_event(api, REFUSAL)
    assert event.count(b"\n\n") == 1
    assert event.endswith(b"\n\n")
    assert json.loads(event.partition(b"data: ")[2])


def test_retry_after_is_whole_seconds_and_never_zero() -> None:
    assert error_response("openai", REFUSAL, "id").headers["Retry-After"] == "1"
    plain = error_response("openai", Refusal(status=404, code="x", message="m"), "id")
    assert "Retry-After" not in plain.headers
