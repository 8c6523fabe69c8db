"""Small deployments that step-time tables are tested on."""

from functools import lru_cache

from simulator.cost.engine_profile import find_engine
from simulator.cost.table import Setup, StepTable, TableOptions, build_table
from simulator.cost.table.options import LinksOf
from simulator.hardware.catalogue import find_device
from simulator.model.catalogue import find_model
from simulator.parallel.layout import Layout
from simulator.topology.group import GroupLinks
from simulator.validation.links import group_links

SMALL = TableOptions(max_tokens=1024, max_sequences=256, max_context=16384, prefill_counts=(1, 4))


def links_of(layout: Layout, gpu: str, per_node: int = 8) -> LinksOf:
    """Groups on hosts of eight."""
    known: dict[tuple[str, ...], GroupLinks] = {}

    def links(axes: tuple[str, ...]) -> GroupLinks:
        if axes not in known:
            known[axes] = group_links(gpu, 2 if axes == ("pp",) else layout.size(axes), per_node)
        return known[axes]

    return links


def setup(
    model: str, layout: Layout, gpu: str = "H100-SXM", engine: tuple[str, str] = ("TensorRT-LLM", "0.17")
) -> Setup:
    """A setup on one kind of GPU."""
    return Setup(find_model(model), layout, find_device(gpu), links_of(layout, gpu), find_engine(*engine))


@lru_cache(maxsize=32)
def table(
    model: str, layout: Layout, gpu: str = "H100-SXM", engine: tuple[str, str] = ("TensorRT-LLM", "0.17"),
    options: TableOptions = SMALL,
) -> StepTable:  # fmt: skip
    """A table that tests share."""
    return build_table(setup(model, layout, gpu, engine), options)
