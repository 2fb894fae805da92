"""Figures of the log become the contract's."""

from gpuserve.controller.status import actual, predicted


def test_allocated_gib_become_bytes() -> None:
    assert actual({"weights_gib": 1.5, "kv_cache_tokens": 8192.0, "max_concurrency": 8.0}, {}) == {
        "weights_bytes": 3 << 29,
        "kv_cache_tokens": 8192,
        "max_concurrency": 8.0,
    }


def test_nothing_known_is_nothing_said() -> None:
    assert actual({}, {}) == {}
    assert predicted(None) == {}


def test_the_engines_metrics_beat_its_log() -> None:
    labels = {"kv_cache_size_tokens": "4096", "kv_cache_memory_bytes": "None", "block_size": "16"}
    assert actual({"kv_cache_tokens": 8192.0}, labels) == {"kv_cache_tokens": 4096}
