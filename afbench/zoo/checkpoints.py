"""Checkpoints of a long training run, as safetensors, so that a killed build goes on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from afbench.store import write_bytes

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from afbench.zoo.training import Schedule

_EVERY_STEPS = 200


class Checkpoint:
    """One checkpoint file: weights, the optimiser's moments and the step.

    Args:
        path: a file of the cache whose name holds the digest of the recipe and its data.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def keep(self, step: int, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> None:
        """Write a checkpoint every so many steps."""
        if step % _EVERY_STEPS:
            return
        import torch
        from safetensors.torch import save

        tensors = {f"weight/{name}": p.detach() for name, p in model.named_parameters()}
        for name, parameter in model.named_parameters():
            state = optimizer.state[parameter]
            tensors[f"first/{name}"] = state["exp_avg"]
            tensors[f"second/{name}"] = state["exp_avg_sq"]
        tensors["step"] = torch.tensor([step])
        write_bytes(self.path, save({k: v.contiguous() for k, v in tensors.items()}))

    def restore(
        self, model: PreTrainedModel, schedule: Schedule
    ) -> tuple[int, torch.optim.Optimizer | None]:
        """Put weights and optimiser back.

        Returns:
            The step and the optimiser; (0, None) where there is no checkpoint, (-1, None) where
            the stage was finished.
        """
        if self.finished:
            self.load_weights(model)
            return -1, None
        if not self.path.exists():
            return 0, None
        import torch
        from safetensors.torch import load

        from afbench.zoo.training import make_optimizer

        tensors = load(self.path.read_bytes())
        step = int(tensors["step"])
        optimizer = make_optimizer(model.parameters(), schedule)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(tensors[f"weight/{name}"])
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(step)),
                    "exp_avg": tensors[f"first/{name}"],
                    "exp_avg_sq": tensors[f"second/{name}"],
                }
        return step, optimizer

    def stage(self, number: int) -> Checkpoint:
        """The checkpoint of a further stage of the same training."""
        return Checkpoint(self.path.with_suffix(f".{number}.safetensors")) if number else self

    @property
    def finished(self) -> bool:
        """Whether the stage came to its end."""
        return self._end.exists()

    def finish(self, model: PreTrainedModel) -> None:
        """Keep the weights at the end of a stage, in half precision, as the next one takes them."""
        from safetensors.torch import save

        tensors = {name: p.detach().half().contiguous() for name, p in model.named_parameters()}
        write_bytes(self._end, save(tensors))
        self.path.unlink(missing_ok=True)
        self.load_weights(model)

    def load_weights(self, model: PreTrainedModel) -> None:
        """Put back the weights at the end of a stage."""
        import torch
        from safetensors.torch import load

        tensors = load(self._end.read_bytes())
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(tensors[name])

    def drop(self) -> None:
        """Remove the checkpoints of a finished run."""
        self.path.unlink(missing_ok=True)
        self._end.unlink(missing_ok=True)

    @property
    def _end(self) -> Path:
        return self.path.with_suffix(".end.safetensors")
