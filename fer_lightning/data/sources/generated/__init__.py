"""The generated set: faces drawn from facial action units, in the manner of four real sources."""

from fer_lightning.data.sources.generated.duplicates import DuplicateKind, PlantedDuplicate
from fer_lightning.data.sources.generated.generate import GeneratedSet, generate_set
from fer_lightning.data.sources.generated.spec import GeneratedSetSpec

__all__ = ["DuplicateKind", "GeneratedSet", "GeneratedSetSpec", "PlantedDuplicate", "generate_set"]
