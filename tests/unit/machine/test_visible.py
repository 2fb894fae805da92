"""CUDA_VISIBLE_DEVICES decides which GPUs there are for us, by CUDA's own rules."""

import pytest

from gpuserve.machine.visible import Card, visibility

ALIKE = tuple(Card(index=n, name="NVIDIA L4", uuid=f"GPU-{n}aa{n}") for n in range(4))
MIXED = (*ALIKE[:3], Card(index=3, name="NVIDIA H200", uuid="GPU-3ff"))


def test_without_the_variable_every_gpu_is_ours() -> None:
    found = visibility(ALIKE, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    assert (found.visible, found.hidden, found.doubts) == ((0, 1, 2, 3), (), ())


@pytest.mark.parametrize(
    ("listed", "visible"),
    [
        ("0", (0,)),
        ("3,1", (1, 3)),
        (" 2 , 0 ", (0, 2)),
        ("GPU-1aa1", (1,)),
        ("GPU-1,GPU-2aa", (1, 2)),
        ("2,GPU-0", (0, 2)),
        ("", ()),
        (" ", ()),
        ("-1", ()),
        ("0,2,-1,1", (0, 2)),
        ("NoDevFiles", ()),
    ],
)
def test_indices_and_beginnings_of_uuids_are_read_as_cuda_reads_them(
    listed: str, visible: tuple[int, ...]
) -> None:
    found = visibility(ALIKE, {"CUDA_VISIBLE_DEVICES": listed})
    assert found.visible == visible
    assert found.hidden == tuple(n for n in range(4) if n not in visible)
    assert found.doubts == ()


@pytest.mark.parametrize("entry", ["7", "GPU-9", "GPU-", "MIG-GPU-1aa1/1/0", "one", "1.5", "²"])
def test_what_names_no_gpu_ends_the_list_and_is_said(entry: str) -> None:
    found = visibility(ALIKE, {"CUDA_VISIBLE_DEVICES": f"1,{entry},2"})
    assert found.visible == (1,)
    (doubt,) = found.doubts
    assert f'"{entry}" names no GPU' in doubt


def test_indices_on_a_machine_of_different_gpus_need_a_stated_order() -> None:
    (doubt,) = visibility(MIXED, {"CUDA_VISIBLE_DEVICES": "0,3"}).doubts
    assert "CUDA_DEVICE_ORDER" in doubt
    for environment in (
        {"CUDA_VISIBLE_DEVICES": "0,3", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
        {"CUDA_VISIBLE_DEVICES": "GPU-0aa0,GPU-3ff"},
    ):
        assert visibility(MIXED, environment).doubts == ()
        assert visibility(MIXED, environment).visible == (0, 3)
