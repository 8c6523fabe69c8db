"""The tree of errors. Each says where, what was given, which rule it broke, and a way out.

ShardsimError
  UnitError            a quantity that cannot be read
  ScenarioError        a scenario file: unknown key, missing file, wrong value
  ModelError           a config.json that is malformed or describes something unknown
  NotBuiltError        understood, priced, but its numbers are not built yet
  TopologyError        a cluster that is malformed or not connected
  LayoutError          a layout that the model or the cluster cannot take
  PlacementError       a program whose tensors meet in placements that do not go together
  ScheduleError        a collective that cannot run on this group, or is malformed
  DoesNotFitError      more bytes than a GPU has
  StalledError         a simulation in which some ranks wait for ever
  KernelError          an op whose sizes or number format no kernel can have
  CalibrationError     a fitted or measured table that is missing, corrupt or of another version
  WorkloadError        requests that no client can send, or a trace that is malformed
  DataError            measured data that does not follow its documented columns
  OutputError          results that cannot be written
"""


class ShardsimError(Exception):
    """Base of all errors a user can cause; the command line prints it and exits with status 2."""

    exit_status = 2

    def __init__(self, given: str, rule: str, way_out: str = "", where: str = "") -> None:
        # Positional too: SimPy and pickle rebuild an exception from its args.
        super().__init__(given, rule, way_out, where)
        self.given, self.rule, self.way_out, self.where = given, rule, way_out, where

    def at(self, where: str) -> "ShardsimError":
        """The same error, told from a place further out: `scenario.yaml: pools[0]` + `layout.tp`."""
        joined = f"{where}.{self.where}" if self.where and not where.endswith((":", " ")) else f"{where}{self.where}"
        return type(self)(given=self.given, rule=self.rule, way_out=self.way_out, where=joined)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        way_out = f"; {self.way_out}" if self.way_out else ""
        return f"{place}{self.given}: {self.rule}{way_out}" if self.given else f"{place}{self.rule}{way_out}"


class UnitError(ShardsimError):
    """A quantity that cannot be read."""


class ScenarioError(ShardsimError):
    """A scenario file with an unknown key, a missing file or a wrong value."""


class ModelError(ShardsimError):
    """A config.json that is malformed or describes an architecture not known here."""


class NotBuiltError(ShardsimError):
    """Understood and priced, but its numbers are not built yet."""


class TopologyError(ShardsimError):
    """A cluster that is malformed or not connected."""


class LayoutError(ShardsimError):
    """A layout that the model or the cluster cannot take."""


class PlacementError(ShardsimError):
    """A program whose tensors meet in placements that do not go together."""


class ScheduleError(ShardsimError):
    """A collective that cannot run on this group, or a malformed schedule."""


class DoesNotFitError(ShardsimError):
    """More bytes than a GPU has."""


class StalledError(ShardsimError):
    """A simulation in which some ranks wait for ever."""


class KernelError(ShardsimError):
    """An op whose sizes or number format no kernel can have."""


class CalibrationError(ShardsimError):
    """A fitted or measured table that is missing, corrupt or of another version."""


class WorkloadError(ShardsimError):
    """Requests that no client can send, or a trace that is malformed."""


class DataError(ShardsimError):
    """Measured data that does not follow its documented columns."""


class OutputError(ShardsimError):
    """Results that cannot be written."""
