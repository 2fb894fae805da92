"""The JSON Schema that editors get says what the loader says."""

from pathlib import Path

import pytest
import tomli
from jsonschema import Draft202012Validator

from gpuserve.errors import ProfileError
from gpuserve.profile.load import load_text
from gpuserve.profile.schema import SCHEMA_FILE, schema, schema_text

SHIPPED = sorted((Path(__file__).parents[3] / "profiles").glob("*.toml"))
MODEL = '[[model]]\nname = "coder"\nmodel = "org/coder"\n'


def valid(text: str) -> bool:
    return bool(Draft202012Validator(schema()).is_valid(tomli.loads(text)))


def loads(text: str) -> bool:
    try:
        load_text(text, path="/p.toml")
    except ProfileError:
        return False
    return True


def test_the_schema_that_is_checked_in_is_current() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), "run python -m scripts.schema"


def test_the_schema_is_itself_valid() -> None:
    Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_profile_satisfies_the_schema(path: Path) -> None:
    validator = Draft202012Validator(schema())
    assert [error.message for error in validator.iter_errors(tomli.loads(path.read_text()))] == []


@pytest.mark.parametrize(
    "line",
    [
        'memory = "50 GiB"',
        "kv_cache_memory_bytes = 1000",
        'kv_cache_memory_bytes = "1.5 GiB"',
        "demand = { context_tokens = 1, concurrency = 1 }",
        "start_timeout_s = 5",
        "drain_timeout_s = 0",
        'aliases = ["org/coder:latest"]',
        "gpus = [1]",
        "cpu_offload_gb = 2",
        '[limits]\nmax_body_bytes = "64 MiB"\nbody_timeout_s = 3',
        '[server]\nallowed_origins = ["*", "http://[::1]:3000"]',
    ],
)
def test_schema_and_loader_both_accept(line: str) -> None:
    assert loads(MODEL + line)
    assert valid(MODEL + line)


@pytest.mark.parametrize(
    "line",
    [
        'memory = "50 GB"',
        'memory = "50"',
        "memory = 50",
        'kv_cache_memory_bytes = "1"',
        "kv_cache_memory_bytes = 0",
        "demand = { context_tokens = 1 }",
        "start_timeout_s = 0",
        "drain_timeout_s = -1",
        'aliases = ["a b"]',
        "gpus = []",
        "gpus = [0.5]",
        "max-model-len = 1",
        "port = 65536",
        'dtype = "fp16"',
        '[limits]\nmax_body_bytes = "64"',
        '[server]\nallowed_origins = ["https://Example.com"]',
    ],
)
def test_schema_and_loader_both_refuse(line: str) -> None:
    assert not loads(MODEL + line)
    assert not valid(MODEL + line)


def test_every_key_has_a_description() -> None:
    tables = [schema(), *schema()["$defs"].values()]
    bare = [
        name
        for table in tables
        for name, key in table["properties"].items()
        if not key.get("description") and not key.get("$ref")
    ]
    assert bare == []


def test_nothing_in_the_schema_speaks_of_null() -> None:
    assert "null" not in schema_text()
