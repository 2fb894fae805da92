"""A wrong name gets the right one."""

import pytest

from gpuserve.profile.document import Document
from gpuserve.profile.faults import KEYS
from gpuserve.profile.words import RESERVED, key_hint, near


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("max-model-len", "max_model_len"),
        ("MAX_MODEL_LEN", "max_model_len"),
        ("--max-model-len", "max_model_len"),
        ("max_model_length", "max_model_len"),
        ("gpu_memory_utilisation", "gpu_memory_utilization"),
        ("aliase", "aliases"),
        ("nothing_like_it", None),
    ],
)
def test_the_nearest_key_is_found(wrong: str, meant: str | None) -> None:
    assert near(wrong, KEYS["model"]) == meant


@pytest.mark.parametrize(
    ("table", "wrong", "said"),
    [
        ("model", "max-num-seqs", "write `max_num_seqs`"),
        ("model", "workers", "belongs in [server]"),
        ("server", "demand", "belongs in [[model]]"),
        ("model", "served_model_name", "`aliases`"),
        ("model", "tp", "`tensor_parallel_size`"),
        ("model", "speculative_config", "--speculative-config"),
        ("server", "completely_wrong", "known here: allowed_origins, host, port"),
        ("", "routng", "did you mean [routing]?"),
    ],
)
def test_a_hint_says_what_to_write(table: str, wrong: str, said: str) -> None:
    assert said in (key_hint(table, wrong, KEYS) or "")


def test_no_reserved_name_is_in_use() -> None:
    assert set(RESERVED) <= set(KEYS)
    for table, names in RESERVED.items():
        assert not names & KEYS[table]


def test_the_keys_are_those_of_the_document() -> None:
    assert KEYS[""] == set(Document.model_fields)
