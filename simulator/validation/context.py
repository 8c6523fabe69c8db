"""What a predictor may look things up in, besides the rows themselves."""

from dataclasses import dataclass
from pathlib import Path

from simulator.errors import ModelError
from simulator.model.architecture import Architecture
from simulator.model.catalogue import find_model
from simulator.model.from_config import load_config


@dataclass(frozen=True, slots=True)
class Context:
    """The folder of the tables, and the models that they name."""

    data: Path

    def model(self, name: str) -> Architecture:
        """A model among the shipped ones, else from DATA/model_configs/<owner>--<name>.json; ModelError otherwise."""
        try:
            return find_model(name)
        except ModelError:
            path = self.data / "model_configs" / f"{name.replace('/', '--')}.json"
            if not path.is_file():
                raise
            return load_config(path)
