"""Models by name, offline: short descriptions of popular models, kept as TOML facts with their sources.

Lookup ignores case, the organisation before the slash, spaces and dashes; `find_model("llama3.1-70b")` and
`find_model("meta-llama/Llama-3.1-70B")` are the same. A trailing precision ("Qwen3-8B FP8") sets the storage type.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache
from importlib.resources import files

from simulator.errors import ModelError
from simulator.model.architecture import Architecture, Quantization
from simulator.model.from_config import architecture_from_config, load_config
from simulator.model.quantization import override, with_precision

_OWN_KEYS = frozenset({"base", "names", "source"})
_STORAGE_KEYS = ("weights", "experts", "kv_cache", "attention")
_PRECISION = re.compile(r"^(.*?)[ _-]+(bf16|fp16|fp8|fp4|nvfp4|mxfp4|int8|int4|awq|gptq)$", re.IGNORECASE)
_NOTE = re.compile(r"\s*\((?![^()]*layer)[^()]*\)$")
"""A remark in brackets ("(128k tokens)"); one on layers changes the model, so it is not passed over."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One description: its config in config.json spelling, other names, and storage where a variant changes it."""

    name: str
    names: tuple[str, ...]
    config: Mapping[str, object]
    source: str
    storage: tuple[tuple[str, str], ...] = ()


def _key(name: str) -> str:
    """What is compared: lower case, only letters, digits, dots and the organisation's slash."""
    return re.sub(r"[^a-z0-9.+/]", "", name.lower())


def _short(key: str) -> str:
    return key.rsplit("/", 1)[-1]


def _read(text: str) -> list[Entry]:
    tables = tomllib.loads(text)
    shared, models = tables.get("shared", {}), tables["models"]
    found: dict[str, Entry] = {}
    for name, given in models.items():
        base = shared[given["base"]] if "base" in given else {}
        config = {**base, **{key: value for key, value in given.items() if key not in _OWN_KEYS}}
        found[name] = Entry(name, tuple(given.get("names", ())), config, given["source"])
    for name, given in tables.get("variants", {}).items():
        storage = tuple((key, given[key]) for key in _STORAGE_KEYS if key in given)
        of = found[given["of"]]
        found[name] = Entry(name, tuple(given.get("names", ())), of.config, given["source"], storage)
    return list(found.values())


@lru_cache(maxsize=1)
def entries() -> tuple[Entry, ...]:
    """Every description that ships, in the order of the files."""
    folder = files("simulator.model") / "catalogue"
    texts = sorted(
        (item.name, item.read_text(encoding="utf-8")) for item in folder.iterdir() if item.name.endswith(".toml")
    )
    return tuple(entry for _, text in texts for entry in _read(text))


@lru_cache(maxsize=1)
def _index() -> Mapping[str, tuple[tuple[str, Entry], ...]]:
    """Comparison key, with and without organisation -> (name as written, entry); several where it is shared."""
    index: dict[str, dict[str, tuple[str, Entry]]] = {}
    for entry in entries():
        for name in (entry.name, *entry.names):
            key = _key(name)
            for each in dict.fromkeys((key, _short(key))):
                index.setdefault(each, {}).setdefault(entry.name, (name, entry))
    return {key: tuple(found.values()) for key, found in index.items()}


def list_models() -> tuple[str, ...]:
    """All names that `find_model` knows, sorted."""
    return tuple(sorted((name for entry in entries() for name in (entry.name, *entry.names)), key=str.lower))


def _stored(quantization: Quantization, storage: tuple[tuple[str, str], ...]) -> Quantization:
    """A variant's storage over plain bf16; what it does not name stays in bf16."""
    return override(Quantization(), **dict(storage)) if storage else quantization


@lru_cache(maxsize=256)
def _built(name: str, entry_name: str) -> Architecture:
    entry = next(entry for entry in entries() if entry.name == entry_name)
    architecture = architecture_from_config(entry.config, name, source=entry.source)
    return replace(architecture, quantization=_stored(architecture.quantization, entry.storage))


def _lookup(name: str) -> tuple[str, Entry] | None:
    """The entry of a name: the whole key first, then, for another organisation's copy, the key without it."""
    index, key = _index(), _key(name)
    found = index.get(key) or index.get(_short(key)) or ()
    if len(found) > 1:
        raise ModelError(
            where="model",
            given=repr(name),
            rule="names several models",
            way_out=f"say which: {', '.join(written for written, _ in found)}",
        )
    return found[0] if found else None


def find_model(name: str) -> Architecture:
    """The architecture of a model that ships with the project.

    The result carries the name as the catalogue writes it. Raises ModelError with close matches for a name that
    is not known, and for a short name that several organisations use for different checkpoints.
    """
    plain = _NOTE.sub("", name.strip())
    found = _lookup(name) or _lookup(plain)
    if found is not None:
        return _built(found[0], found[1].name)
    split = _PRECISION.match(plain)
    if split is not None and _lookup(split[1]) is not None:
        whole = find_model(split[1])
        return replace(whole, name=name.strip(), quantization=with_precision(whole.quantization, split[2]))
    close = get_close_matches(_short(_key(plain)), _index(), n=3, cutoff=0.6)
    suggestions = f"did you mean {', '.join(_index()[match][0][0] for match in close)}? " if close else ""
    raise ModelError(
        where="model",
        given=repr(name),
        rule="is not a model that ships with this program",
        way_out=f"{suggestions}list the models, or give the path of a config.json",
    )


def model_from(name_or_path: str) -> Architecture:
    """A model by path, where the text looks like one (ends in .json, or starts with . / ~), else by name."""
    if name_or_path.endswith(".json") or name_or_path.startswith((".", "/", "~")):
        return load_config(name_or_path)
    return find_model(name_or_path)
