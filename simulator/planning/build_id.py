"""Which program this is, to the letter: results of two builds are never mixed."""

import os
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import simulator

_SUFFIXES = frozenset({".py", ".toml", ".json", ".csv"})


@lru_cache(maxsize=1)
def build_id() -> str:
    """The version and a digest of the package's code and data, e.g. "0.1.0+5f2c9a61d0b4".

    The environment's SHARDSIM_BUILD_ID stands in for it: for going on with a sweep after a change of which one knows
    that it changes no result.
    """
    if given := os.environ.get("SHARDSIM_BUILD_ID"):
        return given
    root = Path(simulator.__file__).parent
    found = sha256()
    for path in sorted(root.rglob("*")):
        if path.suffix in _SUFFIXES:
            found.update(f"{path.relative_to(root).as_posix()}\n".encode() + sha256(path.read_bytes()).digest())
    return f"{simulator.__version__}+{found.hexdigest()[:12]}"
