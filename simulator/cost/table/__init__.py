"""Step-time tables: built once from (model, layout, device, links, engine), asked a million times."""

from simulator.cost.table.build import build_table
from simulator.cost.table.direct import DirectPricer
from simulator.cost.table.options import Setup, Speculation, TableOptions
from simulator.cost.table.table import StepAnswer, StepTable

__all__ = ["DirectPricer", "Setup", "Speculation", "StepAnswer", "StepTable", "TableOptions", "build_table"]
