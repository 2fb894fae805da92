"""The small settings of a repository on the hub, fetched to plan before the weights are here.

Standard library only, bounded, and never cached: three files of a few KiB, so that `check` can
answer for a model that nobody has downloaded. The weights themselves are `hub`'s.
"""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from gpuserve.memory.architecture import read_architecture
from gpuserve.memory.engine import ModelFacts
from gpuserve.profile.spec import ModelSpec

_TIMEOUT_S = 5.0
_LARGEST_CHECKPOINT_BYTES = 1 << 50  # far above any; an index may claim anything
_LARGEST_BYTES = 16 << 20
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


class HubSilent(Exception):
    """The hub could not be asked, or has no such model; the text says why."""


class HubRefused(HubSilent):
    """The hub answered, and will not give this model to us: asking again changes nothing.

    `hint` says what would.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def asked_facts(spec: ModelSpec) -> tuple[ModelFacts, str]:
    """Return what the hub says about the model of *spec*, or empty facts and why it is silent."""
    try:
        return fetch_facts(spec), ""
    except HubSilent as reason:
        return ModelFacts(architecture=None), str(reason)


def ask_access(spec: ModelSpec, environment: Mapping[str, str] = os.environ) -> None:
    """Ask the hub whether it would give us the model of *spec*, with one small request.

    Raises HubRefused where it would not, and HubSilent where it cannot be asked.
    """
    _read(spec, "config.json", _variables(spec, environment))


def fetch_facts(spec: ModelSpec, environment: Mapping[str, str] = os.environ) -> ModelFacts:
    """Return what the hub says about the model of *spec*, a hub id.

    `HF_ENDPOINT` and `HF_TOKEN` count, from the model's `env` before the process's own. Raises
    HubSilent when the network is forbidden or away, or the repository holds no such files.
    """
    variables = _variables(spec, environment)
    config = _get(spec, "config.json", variables)
    if config is None:
        raise HubSilent("the repository has no config.json")
    tokenizer = _get(spec, "tokenizer_config.json", variables)
    chat = None if tokenizer is None else bool(tokenizer.get("chat_template"))
    if not chat and _exists(spec, "chat_template.jinja", variables):
        chat = True
    try:
        architecture = read_architecture(config, chat_template=chat)
    except ValueError as error:
        raise HubSilent(f"its config.json is not usable: {error}") from error
    index = _get(spec, "model.safetensors.index.json", variables) or {}
    return ModelFacts(
        architecture=architecture,
        tensor_bytes=_total(index, halved=_loads_halved(spec, config)),
        source=_address(spec, "config.json", variables),
    )


def _variables(spec: ModelSpec, environment: Mapping[str, str]) -> dict[str, str]:
    variables = {**environment, **dict(spec.env)}
    for name in _OFFLINE:
        if variables.get(name, "").upper() in {"1", "ON", "YES", "TRUE"}:
            raise HubSilent(f"{name} is set")
    return variables


def _total(index: Mapping[str, Any], *, halved: bool) -> int | None:
    metadata = index.get("metadata")
    size = metadata.get("total_size") if isinstance(metadata, dict) else None
    if not isinstance(size, int | float) or not 0 < size < _LARGEST_CHECKPOINT_BYTES:
        return None
    return int(size) // 2 if halved else int(size)


def _loads_halved(spec: ModelSpec, config: Mapping[str, Any]) -> bool:
    """Whether the checkpoint is in float32, which vLLM loads in 16 bit unless told otherwise."""
    stored = config.get("torch_dtype") or config.get("dtype")
    return stored == "float32" and spec.dtype not in {"float32", "float"}


def _get(spec: ModelSpec, name: str, variables: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the JSON object in the file *name*, None where there is no such file."""
    raw = _read(spec, name, variables)
    if raw is None:
        return None
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise HubSilent(f"its {name} is not JSON") from error
    return value if isinstance(value, dict) else None


def _exists(spec: ModelSpec, name: str, variables: Mapping[str, str]) -> bool:
    return _read(spec, name, variables) is not None


def _read(spec: ModelSpec, name: str, variables: Mapping[str, str]) -> bytes | None:
    request = urllib.request.Request(_address(spec, name, variables))  # noqa: S310 - checked below
    if request.type not in {"http", "https"}:
        raise HubSilent(f"HF_ENDPOINT {request.full_url} is not an http address")
    token = variables.get("HF_TOKEN")
    if token:
        # Not sent on when the hub redirects to a file store.
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - as above
            raw: bytes = answer.read(_LARGEST_BYTES + 1)
    except urllib.error.HTTPError as error:
        error.close()
        cause = error.headers.get("x-error-code")
        if error.code == 404 and cause != "RepoNotFound":
            return None
        raise _refusal(spec, error.code, cause, request.host) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise HubSilent(f"{request.host} cannot be reached: {reason}") from error
    if len(raw) > _LARGEST_BYTES:
        raise HubSilent(f"its {name} is larger than {_LARGEST_BYTES >> 20} MiB")
    return raw


def _refusal(spec: ModelSpec, status: int, cause: str | None, host: str) -> HubSilent:
    said = f"{host} answers {status}"
    if cause == "GatedRepo":
        return HubRefused(
            f"it is gated, its owner wants an agreement first ({said})",
            f"agree at https://huggingface.co/{spec.model}, then set HF_TOKEN",
        )
    # The hub answers 401 also for a repository that does not exist.
    if status in {401, 403, 404}:
        return HubRefused(
            f"the hub has no such repository, or does not show it to you ({said})",
            "look at the name; for a private repository set HF_TOKEN",
        )
    return HubSilent(said)


def _address(spec: ModelSpec, name: str, variables: Mapping[str, str]) -> str:
    endpoint = variables.get("HF_ENDPOINT") or "https://huggingface.co"
    revision = quote(spec.revision or "main", safe="")
    return f"{endpoint.rstrip('/')}/{quote(spec.model)}/resolve/{revision}/{name}"
