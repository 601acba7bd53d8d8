"""Which backend of this machine runs a run's models, as the command line says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from afbench.catalog.discovery import Catalog
from afbench.errors import AfbenchError, UnknownNameError
from afbench.models.placement import Placement
from afbench.models.sources import ModelSource
from afbench.vllm_backend.availability import chosen_automatically, require_vllm

LocalName: TypeAlias = Literal["transformers", "vllm"]
LOCAL: Final[tuple[LocalName, ...]] = get_args(LocalName)
AUTO: Final = "auto"


@dataclass(frozen=True, slots=True)
class Local:
    """A backend of this machine, and where on it models run."""

    name: LocalName
    placement: Placement

    @property
    def identity(self) -> dict[str, str]:
        """What of it decides numbers; nothing for transformers in float32 on a CPU."""
        found = {"backend": "vllm", "vllm": require_vllm()} if self.name == "vllm" else {}
        return {**found, **self.placement.identity}

    @contextmanager
    def models(self, catalog: Catalog, default_parent: str | None = None) -> Iterator[ModelSource]:
        """Its models; what it holds of the machine is let go of afterwards."""
        if self.name == "vllm":
            from afbench.vllm_backend.store import VllmStore

            with VllmStore(
                catalog, default_parent=default_parent, placement=self.placement
            ) as store:
                yield store
            return
        from afbench.models.loading import ModelStore

        yield ModelStore(
            catalog,
            default_parent=default_parent,
            device=self.placement.device,
            dtype=self.placement.dtype,
        )


def choose(
    name: str = "transformers",
    device: str | None = None,
    dtype: str | None = None,
    *,
    jobs: int = 1,
) -> Local:
    """The backend of that name; "auto" is vLLM where it is installed and a GPU is there.

    Args:
        device, dtype: as `Placement.of`.
        jobs: in how many processes models are to run.

    Raises:
        UnknownNameError: there is no such backend or precision.
        AfbenchError: it is not installed, or does not run so.
    """
    if name == AUTO:
        alone = jobs == 1 and dtype != "4bit"
        name = "vllm" if alone and chosen_automatically() else "transformers"
    if name == "transformers":
        return Local("transformers", Placement.of(device, dtype))
    if name != "vllm":
        raise UnknownNameError("backend", name, LOCAL)
    require_vllm()
    if jobs > 1:
        raise AfbenchError(
            "vLLM's engines serve one process",
            where="--jobs",
            fix="leave it out: requests run side by side anyway",
        )
    return Local("vllm", Placement.of(device, dtype))
