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
    TokenActivations,
)
from afbench.models.perturbations import (
    ActivationNoise,
    AdapterScaling,
    FineTune,
    Perturbation,
    Steering,
    WeightNoise,
)

__all__ = [
    "POOLINGS",
    "ActivationNoise",
    "AdapterScaling",
    "FineTune",
    "Generation",
    "GenerationSettings",
    "Meter",
    "Model",
    "Perturbation",
    "Pooling",
    "Progress",
    "Steering",
    "TokenActivations",
    "WeightNoise",
]
