"""Real dumps import as they are; broken ones give one clear error."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from topology_cases import check_route

from simulator.errors import TopologyError
from simulator.scenario.topology_file import dump_topology, load_topology
from simulator.topology.cluster import build_cluster
from simulator.topology.facts import group_links
from simulator.topology.importers import import_topology
from simulator.topology.routes import link_class, route
from simulator.topology.spec import Fabric, Wire

SAMPLES = Path(__file__).parents[1].parent / "shared" / "data" / "topo"
# file: GPUs, NICs, model, how GPUs are joined, GB/s of one GPU, GB/s of a pair, sockets
EXPECTED = {
    "nvidia_smi/ml_engineering_2gpu_nv2.txt": (2, 0, "RTX-A6000", "nvlink_mesh", 28.125, 28.125, 1),
    "nvidia_smi/ml_engineering_2gpu_phb.txt": (2, 0, "L40S", "pcie", 31.5, 31.5, 1),
    "nvidia_smi/ml_engineering_h100_52c_8gpu.txt": (8, 0, "H100-SXM", "nvswitch", 450, 450, 2),
    "nvidia_smi/ml_engineering_h100_8gpu.txt": (8, 0, "H100-SXM", "nvswitch", 450, 450, 2),
    "nvidia_smi/nebius_h200_8gpu_8nic_worker0.txt": (8, 8, "H100-SXM", "nvswitch", 450, 450, 2),
    "nvidia_smi/nebius_h200_8gpu_8nic_worker1.txt": (8, 8, "H100-SXM", "nvswitch", 450, 450, 2),
    "nccl_xml/aws_p4d-24xl-topo.xml": (8, 4, "A100-40GB-SXM", "nvswitch", 300, 300, 2),
    "nccl_xml/aws_p4de-24xl-topo.xml": (8, 4, "A100-80GB-SXM", "nvswitch", 300, 300, 2),
    "nccl_xml/azure_ncv4-topo.xml": (4, 1, "A100-PCIe-80GB", "pcie", 15.754, 15.754, 4),
    "nccl_xml/azure_ndv4-topo.xml": (8, 8, "A100-80GB-SXM", "nvswitch", 300, 300, 4),
    "nccl_xml/azure_ndv5-topo.xml": (8, 8, "H100-SXM", "nvswitch", 450, 450, 2),
    "nccl_xml/rccl_topo_16p1h.xml": (16, 8, "MI250X-GCD", "xgmi_mesh", 350, 50, 4),
    "nccl_xml/rccl_topo_8p_940.xml": (8, 8, "MI300X", "xgmi_mesh", 448, 64, 2),
}

MATRIX = """\
\tGPU0\tGPU1\tGPU2\tGPU3\tNIC0\tNIC1\tCPU Affinity\tNUMA Affinity
GPU0\t X \tPIX\tSYS\tSYS\tPXB\tSYS\t0-11\t0
GPU1\tPIX\t X \tSYS\tSYS\tPXB\tSYS\t0-11\t0
GPU2\tSYS\tSYS\t X \tPHB\tSYS\tPIX\t12-23\t1
GPU3\tSYS\tSYS\tPHB\t X \tSYS\tPHB\t12-23\t1
NIC0\tPXB\tPXB\tSYS\tSYS\t X \tSYS
NIC1\tSYS\tSYS\tPIX\tPHB\tSYS\t X
"""
XML = """<system version="1"><cpu numaid="0" arch="x86_64" vendor="GenuineIntel">
<pci busid="a" class="0x030200" device="0x2330" link_speed="32.0 GT/s PCIe" link_width="16"><gpu dev="1" sm="90">
<nvlink target="s0" count="5" tclass="0x068000"/><nvlink target="s1" count="4" tclass="0x068000"/></gpu></pci>
<pci busid="b" class="0x030200" device="0x2330" link_speed="32.0 GT/s PCIe" link_width="16"><gpu dev="0" sm="90">
<nvlink target="s0" count="5" tclass="0x068000"/><nvlink target="s1" count="4" tclass="0x068000"/></gpu></pci>
<pci busid="c" class="0x020700" link_speed="16.0 GT/s PCIe" link_width="8">
<nic><net name="x" speed="200000"/></nic></pci>
</cpu></system>"""


def test_every_sample_is_expected() -> None:
    if not SAMPLES.is_dir():
        pytest.skip("the measured data are not beside this checkout")
    found = {
        str(path.relative_to(SAMPLES)) for folder in ("nvidia_smi", "nccl_xml") for path in (SAMPLES / folder).iterdir()
    }
    assert found == set(EXPECTED)


@pytest.mark.parametrize("sample", EXPECTED)
def test_samples_import_as_they_are(sample: str, tmp_path: Path) -> None:
    if not SAMPLES.is_dir():
        pytest.skip("the measured data are not beside this checkout")
    gpus, nics, model, joined, per_gpu, pair, sockets = EXPECTED[sample]
    spec = import_topology((SAMPLES / sample).read_text(encoding="utf-8"), name="sample")
    cluster = build_cluster(spec)
    links = group_links(cluster, range(gpus))
    assert (cluster.gpus, len(cluster.block.nics), links.device.name) == (gpus, nics, model)
    assert (links.scale_up, links.sockets) == (joined, sockets)
    assert links.scale_up_bytes_per_s == pytest.approx(per_gpu * 1e9, rel=1e-4)
    assert links.pair_bytes_per_s == pytest.approx(pair * 1e9, rel=1e-4)
    for a in range(gpus):
        for b in range(gpus):
            check_route(cluster, a, b, route(cluster, a, b))
    dump_topology(spec, tmp_path / "sample.yaml")
    again = load_topology(tmp_path / "sample.yaml")
    assert again.spec == spec


def test_gpu_that_is_told_wins() -> None:
    text = MATRIX.replace("PIX\tSYS\tSYS\tPXB", "NV4\tSYS\tSYS\tPXB").replace("PIX\t X \tSYS", "NV4\t X \tSYS")
    assert build_cluster(import_topology(text, gpu="RTX3090")).device().name == "RTX3090"
    spec = import_topology(text)
    assert "assumed" in spec.description
    assert "assumed (" not in import_topology(text, gpu="RTX3090").description


def test_matrix_tree_is_what_the_codes_say() -> None:
    cluster = build_cluster(import_topology(MATRIX, gpu="L40S"))

    def classes(a: int, b: int) -> list[str]:
        return [link_class(cluster, link) for link in route(cluster, a, b)]

    assert classes(0, 1) == ["PCIe", "PCIe"]  # one switch
    assert classes(2, 3) == ["PCIe", "PCIe", "PCIe"]  # a switch, then the host bridge
    assert classes(0, 2) == ["PCIe", "PCIe", "PCIe", "socket", "PCIe", "PCIe"]
    assert cluster.tables.gpu_nic.tolist() == [[0], [0], [1], [1]]
    assert cluster.gpu_socket.tolist() == [0, 0, 1, 1]


def test_imported_node_under_a_fabric() -> None:
    spec = import_topology(XML)
    fabric = Fabric("roce", rails=1, tiers=2, switch_ports=4, oversubscription=1.0, hop=Wire(50e9, 1e-6))
    cluster = build_cluster(replace(spec, fabric=fabric), 3)
    assert [vertex.name for vertex in cluster.block.vertices[:2]] == ["gpu0", "gpu1"]
    inside = group_links(cluster, [0, 1])
    assert (inside.scale_up_bytes_per_s, inside.multicast) == (9 * 25e9, True)
    gen4_x8 = 16e9 * 8 * 128 / 130 / 8  # narrower than the NIC's 25 GB/s
    assert group_links(cluster, [0, 2, 4]).nic_bytes_per_s == pytest.approx(gen4_x8)
    assert group_links(cluster, range(6)).nic_bytes_per_s == pytest.approx(gen4_x8 / 2)
    check_route(cluster, 0, 5, route(cluster, 0, 5))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "holds no topology"),
        ("digraph { a -> b }", "no format known here"),
        ("GPU 0: NVIDIA H100 (UUID: GPU-1)", "no format known here"),
        (MATRIX.replace("PXB\tSYS\t0-11", "PYB\tSYS\t0-11"), "PYB"),
        (
            MATRIX.replace("GPU3\tSYS\tSYS\tPHB\t X \tSYS\tPHB", "GPU3\tSYS\tSYS").replace("12-23\t1\nNIC0", "\nNIC0"),
            "columns",
        ),
        (MATRIX.replace("GPU1\tPIX", "GPU1\tSYS"), "symmetric"),
        ("\n".join(line for line in MATRIX.splitlines() if not line.startswith("NIC1")), "no row"),
        (XML.replace("</cpu>", ""), "well-formed"),
        (XML.replace('version="1"', 'version="9"'), "no <system version"),
        (XML.replace('class="0x020700"', 'class="0x010802"'), "no PCI class known"),
        (XML.replace("0x030200", "0x020700"), "no GPU"),
        (
            XML.replace('target="s0" count="5" tclass="0x068000"', 'target="z" count="5" tclass="0x030200"'),
            "no GPU of this file",
        ),
    ],
)
def test_broken_dumps_are_refused(text: str, rule: str) -> None:
    with pytest.raises(TopologyError, match=rule):
        import_topology(text)


@given(st.text(max_size=200))
def test_any_text_gives_a_topology_or_an_error_of_ours(text: str) -> None:
    for prefix in ("", "<system version='1'>", "\tGPU0\tGPU1\n"):
        with suppress(TopologyError):  # any other exception fails the test
            import_topology(prefix + text)
