"""Memory that was planned and measured: in the metrics, and pinned."""

import json

from tests.integration.instance.conftest import Box


def test_engines_without_a_gpu_are_not_pinned_and_pins_are_removed(box: Box) -> None:
    stale = (
        'pinned = { kv_cache_memory_bytes = 1048576, vllm = "0.33.0", cards = ["NVIDIA L4"], '
        'settings = "0" }  # measured in May'
    )
    box.more = {"coder": stale}
    box.start()
    scraped = box.instance.get("/metrics").body.decode()
    for name in ("coder", "general"):
        labels = f'model="{name}",part="kv_cache",kind="predicted"'
        assert f"gpuserve_engine_memory_bytes{{{labels}}}" in scraped
    before = box.instance.profile.read_text()
    done = box.instance.gpuserve("pin")
    assert done.returncode == 1
    assert "coder: it has no GPU" in done.stderr
    assert "general: it has no GPU" in done.stderr
    assert box.instance.profile.read_text() == before
    assert box.instance.gpuserve("pin", "nobody").returncode == 2
    done = box.instance.gpuserve("pin", "coder", "--remove", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["pins"] == {"coder": None}
    after = box.instance.profile.read_text()
    assert "pinned" not in after
    assert after.split() == before.replace(stale, "").split()
