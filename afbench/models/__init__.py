"""Models: one small interface, and the transformers backend that implements it.

Importing this package imports neither torch nor transformers; `afbench.models.loading` and
`afbench.models.transformers_model` do.
"""

from afbench.models.interface import (
    POOLINGS,
    Generation,
    GenerationSettings,
    Meter,
    Model,
    Pooling,
    Progress,
)

__all__ = [
    "POOLINGS",
    "Generation",
    "GenerationSettings",
    "Meter",
    "Model",
    "Pooling",
    "Progress",
]
