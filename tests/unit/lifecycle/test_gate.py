"""One engine per device moves memory at a time, and only when its memory is there."""

from gpuserve.lifecycle.gate import Free, Gate, Waiter, decide
from gpuserve.readings import GpuProcess
from gpuserve.units import GIB, MIB


def settled(free_gib: float) -> Free:
    return Free(int(free_gib * GIB), int(free_gib * GIB))


def waiter(name: str, *devices: str, needs_gib: int = 10) -> Waiter:
    return Waiter(name=name, needs=tuple((d, needs_gib * GIB) for d in devices or ("gpu0",)))


def test_one_of_two_on_the_same_gpu_starts() -> None:
    gate = decide([waiter("a"), waiter("b")], {}, {"gpu0": settled(80)})
    assert gate == Gate(opened=("a",), reasons={"b": "waits for a on gpu0"})


def test_two_on_different_gpus_start_together() -> None:
    free = {"gpu0": settled(80), "gpu1": settled(80)}
    assert decide([waiter("a"), waiter("b", "gpu1")], {}, free).opened == ("a", "b")


def test_nobody_starts_while_a_neighbour_moves_memory() -> None:
    gate = decide([waiter("a")], {"gpu0": "old"}, {"gpu0": settled(80)})
    assert gate == Gate(opened=(), reasons={"a": "waits for old on gpu0"})


def test_nobody_starts_before_free_memory_has_settled() -> None:
    free = {"gpu0": Free(80 * GIB, 79 * GIB)}
    assert "settled" in decide([waiter("a")], {}, free).reasons["a"]
    assert "settled" in decide([waiter("a")], {}, {"gpu0": Free(80 * GIB, None)}).reasons["a"]
    close = {"gpu0": Free(80 * GIB, 80 * GIB - 64 * MIB)}
    assert decide([waiter("a")], {}, close).opened == ("a",)


def test_a_start_that_lacks_memory_says_how_much() -> None:
    reason = decide([waiter("a", needs_gib=50)], {}, {"gpu0": settled(49.5)}).reasons["a"]
    assert "50.00 GiB" in reason
    assert "49.50 GiB" in reason


def test_one_that_lacks_memory_does_not_hold_up_a_smaller_one() -> None:
    free = {"gpu0": settled(20)}
    gate = decide([waiter("big", needs_gib=50), waiter("small", needs_gib=5)], {}, free)
    assert gate.opened == ("small",)


def test_exactly_enough_memory_is_enough() -> None:
    assert decide([waiter("a", needs_gib=50)], {}, {"gpu0": settled(50)}).opened == ("a",)


def test_each_of_two_unequal_cards_must_have_its_own_share_free() -> None:
    engine = Waiter(name="tp", needs=(("gpu0", 20 * GIB), ("gpu1", 40 * GIB)))
    enough = {"gpu0": settled(20), "gpu1": settled(40)}
    assert decide([engine], {}, enough).opened == ("tp",)
    lacking = {"gpu0": settled(80), "gpu1": settled(39)}
    reason = decide([engine], {}, lacking).reasons["tp"]
    assert reason == "waits for memory on gpu1: needs 40.00 GiB, 39.00 GiB is free"


def test_a_tensor_parallel_engine_is_not_starved_by_its_neighbours() -> None:
    """It waits for gpu1; the one behind it does not take gpu0 away meanwhile."""
    free = {"gpu0": settled(80), "gpu1": settled(80)}
    gate = decide([waiter("tp", "gpu0", "gpu1"), waiter("late")], {"gpu1": "old"}, free)
    assert gate.opened == ()
    assert gate.reasons == {"tp": "waits for old on gpu1", "late": "waits for tp on gpu0"}


def test_a_device_that_cannot_be_read_opens_for_nobody() -> None:
    assert "cannot read" in decide([waiter("a")], {}, {}).reasons["a"]
    assert "cannot read" in decide([waiter("a")], {}, {"gpu0": Free(None, 5)}).reasons["a"]


def test_a_start_that_lacks_memory_says_who_else_holds_it() -> None:
    others = tuple(GpuProcess(pid=n, used_bytes=n * GIB, name=f"job {n}") for n in (9, 8, 7, 6))
    free = {"gpu0": Free(5 * GIB, 5 * GIB, others=others)}
    reason = decide([waiter("a")], {}, free).reasons["a"]
    assert "job 9 (pid 9) holds 9.00 GiB, job 8" in reason
    assert reason.endswith("1 more hold the rest")
    hidden = {"gpu0": Free(0, 0, others=(GpuProcess(pid=4, used_bytes=GIB),))}
    assert "hidden (pid 4)" in decide([waiter("a")], {}, hidden).reasons["a"]


def test_a_driver_that_fails_is_quoted() -> None:
    free = {"gpu0": Free(None, None, fault="the driver was upgraded: reboot")}
    assert decide([waiter("a")], {}, free).reasons["a"] == "the driver was upgraded: reboot"
