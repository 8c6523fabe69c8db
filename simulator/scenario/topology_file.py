"""Topology files: found by name or path, read with line numbers, written back."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any, TextIO

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from simulator.errors import ShardsimError, TopologyError, UnitError
from simulator.scenario.topology_schema import TopologyFile
from simulator.scenario.topology_text import topology_document
from simulator.topology.cluster import Cluster, build_cluster
from simulator.topology.spec import ClusterSpec

_PACKAGE = Path(__file__).resolve().parents[1]
_SUFFIXES = (".yaml", ".yml")


def _shipped() -> Path:
    """Folder of the topologies that come with the program: of the installed wheel, or of the source tree."""
    installed = _PACKAGE / "_shipped" / "topologies"
    return installed if installed.is_dir() else _PACKAGE.parent / "topologies"


def list_topologies() -> tuple[str, ...]:
    """Names of the shipped topologies."""
    return tuple(sorted(path.stem for path in _shipped().glob("*.yaml")))


def find_topology(path_or_name: str | Path) -> Path:
    """The file of that path, or the shipped one of that name; TopologyError where there is neither."""
    path = Path(path_or_name)
    if path.is_file():
        return path
    if path.parent == Path() and path.suffix in ("", *_SUFFIXES):
        shipped = _shipped() / f"{path.stem if path.suffix in _SUFFIXES else path.name}.yaml"
        if shipped.is_file():
            return shipped
    names = ", ".join(list_topologies())
    raise TopologyError(
        given=str(path_or_name), rule="is no file and no shipped topology", way_out=f"shipped are {names}"
    )


def read_topology(path_or_name: str | Path) -> ClusterSpec:
    """The description in a topology file.

    Raises TopologyError or UnitError with file, line, field, value, rule and a way out.
    """
    path = find_topology(path_or_name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TopologyError(given=str(path), rule=f"cannot be read ({error})") from None
    return parse_topology(text, str(path))


def parse_topology(text: str, file: str = "topology") -> ClusterSpec:
    """The description in the text of a topology file; errors name `file`."""
    try:
        document = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise TopologyError(given=str(error.problem), rule="is not YAML", where=f"{file}{line}") from None
    except YAMLError as error:
        raise TopologyError(given=str(error).splitlines()[0], rule="is not YAML", where=file) from None
    if not isinstance(document, CommentedMap):
        raise TopologyError(given=type(document).__name__, rule="a topology file is a mapping", where=file)
    try:
        return TopologyFile.model_validate(document).spec()
    except ValidationError as error:
        raise _told(error, document, file) from None
    except ValueError as error:
        raise TopologyError(given="", rule=str(error), where=file) from None


def load_topology(path_or_name: str | Path, nodes: int | None = None) -> Cluster:
    """The cluster of `nodes` nodes (one if not told) that a topology file, or a shipped name, describes.

    >>> load_topology("dgx_h100", nodes=4).gpus
    32
    """
    path = find_topology(path_or_name)
    try:
        return build_cluster(read_topology(path), 1 if nodes is None else nodes)
    except TopologyError as error:
        raise error if error.where.startswith(str(path)) else error.at(f"{path}: ") from None


def dump_topology(spec: ClusterSpec, path: str | Path) -> None:
    """Write a topology file that reads back as the same description."""
    with Path(path).open("w", encoding="utf-8") as stream:
        write_topology(spec, stream)


def write_topology(spec: ClusterSpec, stream: TextIO) -> None:
    """The text of a topology file, into an open stream."""
    yaml = YAML()
    yaml.width = 120
    yaml.dump(topology_document(spec), stream)


def topology_schema() -> dict[str, Any]:
    """JSON schema of a topology file, for editors."""
    return TopologyFile.model_json_schema()


def _told(error: ValidationError, document: CommentedMap, file: str) -> ShardsimError:
    """The first problem, with its line."""
    first = error.errors()[0]
    line, names = _place(document, first["loc"])
    rule = first["msg"].removeprefix("Value error, ")
    unit = first["type"] == "value_error"
    kind = UnitError if unit else TopologyError
    way_out = ""
    if first["type"] == "extra_forbidden":
        rule, way_out = "unknown key", _nearest_key(str(first["loc"][-1]))
    given = "" if unit or isinstance(first["input"], dict | list) else repr(first["input"])
    more = len(error.errors()) - 1
    if more:
        rule += f" (and {more} more)"
    return kind(given=given, rule=rule, way_out=way_out, where=f"{file}:{line}: {names}")


def _nearest_key(name: str) -> str:
    """A way out for a key that is not known."""
    schema = TopologyFile.model_json_schema()
    models = [schema, *schema["$defs"].values()]
    keys = sorted({key for model in models for key in model.get("properties", ())})
    near = get_close_matches(name, keys, n=1)
    return f"did you mean {near[0]}?" if near else f"keys of topology files are {', '.join(keys)}"


def _place(document: CommentedMap, location: tuple[int | str, ...]) -> tuple[int, str]:
    """Line (from 1) and dotted name of the field; tags of unions are not part of the name."""
    at: Any = document
    line, names = 1, ""
    for step in location:
        if isinstance(at, CommentedMap) and step in at:
            line, at = at.lc.key(step)[0] + 1, at[step]
        elif isinstance(at, CommentedSeq) and isinstance(step, int) and step < len(at):
            line, at = at.lc.item(step)[0] + 1, at[step]
        elif step != location[-1] or step in ("nvswitch", "nvlink_mesh", "xgmi_mesh"):
            continue
        names += f"[{step}]" if isinstance(step, int) else f".{step}"
    return line, names.removeprefix(".")
