"""Which importer a text is for."""

import re

from simulator.errors import TopologyError
from simulator.topology.importers.nccl_xml import import_nccl_xml
from simulator.topology.importers.nvidia_smi import import_nvidia_smi
from simulator.topology.spec import ClusterSpec


def import_topology(text: str, gpu: str | None = None, name: str = "imported") -> ClusterSpec:
    """The node that a machine's own dump describes, vertex by vertex.

    Knows `nvidia-smi topo -m` and NCCL or RCCL topology XML. `gpu` names the GPU model where the dump does not say
    it; without it the likeliest is taken, and the description says so, as it does of every other assumption.
    Raises TopologyError for any other format and for a malformed dump.
    """
    if not text.strip():
        raise TopologyError(given="an empty text", rule="holds no topology", way_out=_WAY_OUT)
    if re.search(r"<system[\s>]", text):
        return import_nccl_xml(text, gpu, name)
    if re.search(r"^\s*(GPU\d+\s+)+", text, re.MULTILINE):
        return import_nvidia_smi(text, gpu, name)
    first = next(line.strip() for line in text.splitlines() if line.strip())
    raise TopologyError(given=repr(first[:60]), rule="begins no format known here", way_out=_WAY_OUT)


_WAY_OUT = "give the output of `nvidia-smi topo -m`, or the XML that NCCL_TOPO_DUMP_FILE writes"
