"""The catalogue: spellings people use, and figures that hang together."""

import pytest

from simulator.errors import TopologyError
from simulator.hardware.catalogue import find_device, list_devices


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("H100", "H100-SXM"),
        ("h100 sxm", "H100-SXM"),
        ("NVIDIA H100-SXM5-80GB", "H100-SXM"),
        ("NVIDIA H100-NVL-94GB", "H100-NVL"),
        ("NVIDIA H100-PCIe-80GB", "H100-PCIe"),
        ("GB200", "GB200-NVL72"),
        ("AMD Instinct MI325X 256GB HBM3e", "MI325X"),
        ("AMD Instinct MI300X-NPS1-SPX-192GB-750W", "MI300X"),
        ("Virtualized NVIDIA H200-SXM-141GB", "H200-SXM"),
        ("NVIDIA H200-SXM-141GB-CTS", "H200-SXM"),
        ("a100_40gb", "A100-40GB-SXM"),
        ("A100-SXM4-80GB", "A100-80GB-SXM"),
        ("A100-PCIE-80GB", "A100-PCIe-80GB"),
        ("NVIDIA GH200 Grace Hopper Superchip 144GB", "GH200-144GB"),
        ("NVIDIA GH200 Grace Hopper Superchip 96GB", "GH200"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX-PRO-6000-Server"),
        ("RTX 6000 Pro Blackwell SE", "RTX-PRO-6000-Server"),
        ("4090", "RTX4090"),
        ("A6000-48G", "RTX-A6000"),
        ("Ascend 910B", "Ascend-910B"),
        ("NVIDIA RTX 4000 ADA-PCIE-20GB", "RTX-4000-Ada"),
        ("RTX 6000 Ada", "RTX-6000-Ada"),
        ("H20-3e", "H20-141GB"),
        ("H20", "H20-96GB"),
        ("NVIDIA GB300 SXM", "GB300-NVL72"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "RTX-PRO-6000-Workstation"),
        ("AMD Instinct MI350X 288GB HBM3e", "MI350X"),
        ("NVIDIA GH200-GraceHopper-Superchip", "GH200"),
    ],
)
def test_spellings(spelling: str, name: str) -> None:
    assert find_device(spelling).name == name


@pytest.mark.parametrize("device", list_devices(), ids=lambda device: device.name)
def test_figures_hang_together(device) -> None:
    assert find_device(device.name) is device
    assert find_device(device.name.upper().replace("-", " ")) is device
    assert device.source
    # Compute per byte of memory traffic: 40 (H20) to about 420 FLOP/B at 16 bits; a slip of a prefix leaves that range.
    intensity = device.peak_flops_per_s["fp16"] / device.hbm_bytes_per_s
    assert 30 <= intensity <= 450
    assert 14 * 2**30 <= device.hbm_bytes <= 300 * 2**30
    assert 0.15e12 < device.hbm_bytes_per_s < 30e12
    assert 15e9 < device.pcie_bytes_per_s <= 121e9
    assert device.nvlink_bytes_per_s == 0 or device.nvlink_bytes_per_s > device.pcie_bytes_per_s
    assert device.nic_bytes_per_s <= 200e9
    assert device.sm_count > 0
    assert device.tdp_w > 0
    if "fp8" in device.peak_flops_per_s:
        assert 1.8 <= device.peak_flops_per_s["fp8"] / device.peak_flops_per_s["fp16"] <= 4.5
    if "fp4" in device.peak_flops_per_s:
        assert 1.8 <= device.peak_flops_per_s["fp4"] / device.peak_flops_per_s["fp8"] <= 4.1


@pytest.mark.parametrize(
    ("name", "memory_gib", "bf16_tflops", "nvlink_gb_s"),
    [("H100-SXM", 80, 989, 450), ("H800-SXM", 80, 989, 200), ("B200-SXM", 180, 2250, 900), ("MI300X", 192, 1307, 448)],
)
def test_datasheet_anchors(name: str, memory_gib: float, bf16_tflops: float, nvlink_gb_s: float) -> None:
    device = find_device(name)
    assert device.hbm_bytes / 2**30 == pytest.approx(memory_gib, rel=0.01)
    assert device.peak_flops_per_s["bf16"] == pytest.approx(bf16_tflops * 1e12)
    assert device.nvlink_bytes_per_s == pytest.approx(nvlink_gb_s * 1e9)


def test_bf16_is_not_claimed_where_the_hardware_has_none() -> None:
    assert "bf16" not in find_device("V100").peak_flops_per_s
    assert "fp8" not in find_device("A100").peak_flops_per_s


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(TopologyError, match="H100") as caught:
        find_device("H1000")
    assert "did you mean" in caught.value.way_out
    with pytest.raises(TopologyError, match="shardsim list gpus"):
        find_device("Colossus")
