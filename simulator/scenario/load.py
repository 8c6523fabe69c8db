"""From a scenario file, with overrides, to checked specs that remember their lines."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from simulator.errors import ScenarioError
from simulator.scenario.document import Document, read_document
from simulator.scenario.overrides import apply_settings, parse_path, put
from simulator.scenario.schema import ComparisonSpec, ScenarioSpec, VariantSpec
from simulator.scenario.told import checked

_PACKAGE = Path(__file__).resolve().parents[1]
_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Entry:
    """One deployment to resolve: its spec, and the document that error messages point into."""

    spec: ScenarioSpec
    document: Document

    @property
    def folder(self) -> Path:
        """Relative paths in the spec start here."""
        return Path(self.document.file).parent


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario file: one entry, or the variants of a comparison."""

    name: str
    description: str
    entries: tuple[Entry, ...]
    comparison: bool = False


def _shipped() -> Path:
    """Folder of the scenarios that come with the program: of the installed wheel, or of the source tree."""
    installed = _PACKAGE / "_shipped" / "scenarios"
    return installed if installed.is_dir() else _PACKAGE.parent / "scenarios"


PLAN = "plan_"
"""How the names of shipped plans begin: questions for `shardsim plan`."""


def list_scenarios() -> tuple[str, ...]:
    """Names of the shipped scenarios, for `shardsim run`."""
    return tuple(sorted(path.stem for path in _shipped().glob("*.yaml") if not path.stem.startswith(PLAN)))


def list_plans() -> tuple[str, ...]:
    """Names of the shipped plans, for `shardsim plan`."""
    return tuple(sorted(path.stem for path in _shipped().glob(f"{PLAN}*.yaml")))


def find_scenario(path_or_name: str | Path) -> Path:
    """The file of that path, or the shipped one of that name; ScenarioError where there is neither."""
    path = Path(path_or_name)
    if path.is_file():
        return path
    # `scenarios/x.yaml` also works where the program is installed and there is no such folder.
    shipped = _shipped() / f"{path.stem}.yaml"
    if str(path.parent) in (".", "scenarios") and path.suffix in ("", *_SUFFIXES) and shipped.is_file():
        return shipped
    rule = "is a folder" if path.is_dir() else "no such file, and no shipped scenario of that name"
    raise ScenarioError(given=str(path), rule=rule, way_out=f"shipped are {', '.join(list_scenarios())}")


def load_scenario(path_or_name: str | Path, settings: Sequence[str] = ()) -> Scenario:
    """The checked content of a scenario file with `path=value` overrides laid over it.

    In a comparison the overrides go to every variant, except those that begin with `base.` or `compare[`.
    Raises ScenarioError, naming file and line.
    """
    path = find_scenario(path_or_name)
    document = read_document(path)
    if "compare" not in document.values:
        apply_settings(document, list(settings))
        spec = checked(ScenarioSpec, document)
        spec = spec if spec.name else spec.model_copy(update={"name": path.stem})
        return Scenario(spec.name, spec.description, (Entry(spec, document),))
    own = [s for s in settings if s.startswith(("base.", "compare[", "name=", "description="))]
    apply_settings(document, own)
    comparison = checked(ComparisonSpec, document)
    others = [s for s in settings if s not in own]
    entries = tuple(_variant(document, i, variant, others) for i, variant in enumerate(comparison.compare))
    _check_names(document, comparison)
    return Scenario(comparison.name or path.stem, comparison.description, entries, comparison=True)


def _check_names(document: Document, comparison: ComparisonSpec) -> None:
    names = [variant.name for variant in comparison.compare]
    for index, name in enumerate(names):
        if name in names[:index]:
            where = document.where(("compare", index, "name"))
            raise ScenarioError(
                where=where, given=repr(name), rule="is the name of another variant", way_out="rename it"
            )


def _variant(document: Document, index: int, variant: VariantSpec, settings: list[str]) -> Entry:
    start = _start(document, index, variant)
    for path, value in variant.set.items():
        keys = ("compare", index, "set", path)
        mark = document.where(keys)
        put(start, parse_path(path, mark), value, mark)
    apply_settings(start, settings)
    start.values["name"] = variant.name
    return Entry(checked(ScenarioSpec, start), start)


def _start(document: Document, index: int, variant: VariantSpec) -> Document:
    """What a variant's overrides are laid over."""
    if variant.scenario is None:
        if document.values.get("base") is None:
            raise ScenarioError(
                where=document.where(("compare", index)),
                given=variant.name,
                rule="has nothing to start from",
                way_out="give `scenario: file.yaml`, or a `base:` beside `compare:`",
            )
        return document.part(("base",))
    where = document.where(("compare", index, "scenario"))
    path = Path(document.file).parent / variant.scenario
    if not path.is_file():
        raise ScenarioError(
            where=where, given=variant.scenario, rule=f"no such file ({path})", way_out="mind the folder"
        )
    start = read_document(path)
    if "compare" in start.values:
        raise ScenarioError(
            where=where, given=variant.scenario, rule="is a comparison itself", way_out="name its parts"
        )
    return start


def schema_json() -> dict[str, Any]:
    """JSON schema of scenario files, for editors."""
    schema = TypeAdapter(ScenarioSpec | ComparisonSpec).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "shardsim scenario", **schema}
