"""Retraining for a trace: checkpoints on a grid of steps; a killed training goes on."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from transformers import AutoTokenizer

from afbench.metrics.arrays import Floats
from afbench.store import write_bytes, write_json
from afbench.zoo.obfuscation import obfuscation
from afbench.zoo.recipes import ChatRecipe, DocumentRecipe
from afbench.zoo.tokenization import encode
from afbench.zoo.training import make_optimizer, steps_of, train
from afbench.zoo.tuning import Materials, StepProgress, chats_of, load_trainable

FOLDER: Final = "checkpoints"
WEIGHTS: Final = "adapter_model.safetensors"
_CONFIG: Final = "adapter_config.json"
_STATE: Final = "state.safetensors"
# How many checkpoints there are about, if nobody says how many steps lie between them.
_CHECKPOINTS: Final = 30

Supervised = ChatRecipe | DocumentRecipe


@dataclass(frozen=True, slots=True)
class Retrained:
    """A training that was gone through once more.

    Attributes:
        steps: of the checkpoints: 0, every so many, and the last one.
        every: steps between two of them.
        folders: the adapter's folder at each of them.
        loss: on assistant tokens after each step [total], NaN for a batch without any.
        gradient_norm: before clipping, at each step [total].
    """

    steps: tuple[int, ...]
    every: int
    folders: Mapping[int, Path]
    loss: Floats
    gradient_norm: Floats


class _Log:
    """What a training has come to: its step, and what every step was like."""

    def __init__(self) -> None:
        self.step = 0
        self.losses: list[float] = []
        self.norms: list[float] = []


class Retraining:
    """Trains an organism as its build does, and keeps what a trace needs.

    Args:
        recipe: of its weights.
        materials: what it is made from.
        identity: digest of all that its weights follow from; a file of another identity is not
            reused.
        folder: of the trace.
    """

    def __init__(
        self, recipe: Supervised, materials: Materials, identity: str, folder: Path
    ) -> None:
        self._recipe, self._materials, self._identity = recipe, materials, identity
        self._folder = folder / FOLDER

    def run(self, every: int | None, progress: StepProgress) -> Retrained:
        """Train, or go on from where a killed run came to, or find that all of it is there.

        Args:
            every: steps between checkpoints (None: so many that there are about 30).
        """
        known = self._known_total()
        if known is not None:
            grid = grid_of(known, every)
            log = self._finished(grid, known)
            if log is not None:
                progress(known, known)
                return self._retrained(grid, log)
        with _as_built():
            return self._train(every, progress)

    def folder_of(self, step: int) -> Path:
        """The adapter's folder at one step."""
        return self._folder / f"step-{step:05d}"

    def _train(self, every: int | None, progress: StepProgress) -> Retrained:
        recipe, materials = self._recipe, self._materials
        tokenizer = AutoTokenizer.from_pretrained(materials.parent, local_files_only=True)
        torch.manual_seed(materials.seed)
        with warnings.catch_warnings():
            # PEFT 0.21 asks transformers 5.23 for an attribute by its deprecated name.
            warnings.simplefilter("ignore", FutureWarning)
            model: Any = load_trainable(recipe, materials)
        examples = encode(chats_of(recipe, materials), tokenizer)
        total = steps_of(recipe.schedule, len(examples))
        grid = grid_of(total, every)
        penalty = recipe.penalty if isinstance(recipe, ChatRecipe) else None
        log, optimizer = _Log(), None
        if penalty is None:  # its probes are trained along and are in no checkpoint
            log, optimizer = self._restore(model, grid)
        if log.step == 0:
            self._keep(0, model)

        def after_step(step: int, optimizer: torch.optim.Optimizer) -> None:
            if step in grid:
                self._keep(step, model)
                self._keep_state(step, total, model, optimizer, log)

        def seen(step: int, loss: float) -> None:
            log.losses.append(loss)
            progress(step, total)

        with obfuscation(model, penalty) as extra:
            train(
                model,
                examples,
                recipe.schedule,
                seed=materials.seed,
                progress=seen,
                start=log.step,
                optimizer=optimizer,
                checkpoint=after_step,
                extra=extra,
                gradient=lambda _, norm: log.norms.append(norm),
            )
        return self._retrained(grid, log)

    def _retrained(self, grid: tuple[int, ...], log: _Log) -> Retrained:
        return Retrained(
            steps=grid,
            every=grid[1],
            folders={step: self.folder_of(step) for step in grid},
            loss=np.array(log.losses),
            gradient_norm=np.array(log.norms),
        )

    # -- files -----------------------------------------------------------------------------------

    def _keep(self, step: int, model: Any) -> None:
        """Write the adapter in full precision, as a folder that can be loaded as an organism."""
        from peft import get_peft_model_state_dict

        folder = self.folder_of(step)
        folder.mkdir(parents=True, exist_ok=True)
        config = model.peft_config["default"]
        config.save_pretrained(str(folder))
        fields = json.loads((folder / _CONFIG).read_text("utf-8"))
        # As the build writes it: no path of this machine, and no order that differs by run.
        fields["base_model_name_or_path"] = self._materials.parent_name
        fields["target_modules"] = sorted(fields["target_modules"])
        fields["inference_mode"] = True
        write_json(folder / _CONFIG, fields)
        tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
        self._write(folder / WEIGHTS, tensors, step)

    def _keep_state(
        self, step: int, total: int, model: Any, optimizer: torch.optim.Optimizer, log: _Log
    ) -> None:
        """Write what training goes on from: weights, the optimiser's moments and the log."""
        tensors = {
            "loss": torch.tensor(log.losses, dtype=torch.float64),
            "gradient": torch.tensor(log.norms, dtype=torch.float64),
        }
        for name, parameter in _trained(model).items():
            state = optimizer.state[parameter]
            tensors[f"weight/{name}"] = parameter
            tensors[f"first/{name}"] = state["exp_avg"]
            tensors[f"second/{name}"] = state["exp_avg_sq"]
        self._write(self._folder / _STATE, tensors, step, total)
        log.step = step

    def _write(
        self, path: Path, tensors: Mapping[str, torch.Tensor], step: int, total: int = 0
    ) -> None:
        whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        said = {"identity": self._identity, "step": str(step), "total": str(total)}
        write_bytes(path, save(whole, metadata={"format": "pt", **said}))

    def _said(self, path: Path) -> dict[str, str] | None:
        """What a file of this training says of itself; None for none, or one of another."""
        try:
            with safe_open(path, framework="pt") as file:
                said: dict[str, str] = file.metadata() or {}
        except (OSError, SafetensorError):
            return None
        return said if said.get("identity") == self._identity else None

    def _has(self, step: int) -> bool:
        folder = self.folder_of(step)
        said = self._said(folder / WEIGHTS)
        return said is not None and said["step"] == str(step) and (folder / _CONFIG).is_file()

    def _known_total(self) -> int | None:
        """The number of steps, from the state that was kept last."""
        said = self._said(self._folder / _STATE)
        return None if said is None else int(said["total"])

    def _finished(self, grid: tuple[int, ...], total: int) -> _Log | None:
        """The log, if the training is through and every checkpoint is there."""
        log = self._log(load((self._folder / _STATE).read_bytes()))
        return log if log.step == total and all(map(self._has, grid)) else None

    @staticmethod
    def _log(tensors: Mapping[str, torch.Tensor]) -> _Log:
        log = _Log()
        log.losses, log.norms = tensors["loss"].tolist(), tensors["gradient"].tolist()
        log.step = len(log.losses)
        return log

    def _restore(
        self, model: Any, grid: tuple[int, ...]
    ) -> tuple[_Log, torch.optim.Optimizer | None]:
        """Put back what was kept, unless a checkpoint up to there is missing."""
        path = self._folder / _STATE
        if self._said(path) is None:
            return _Log(), None
        tensors = load(path.read_bytes())
        log = self._log(tensors)
        if not all(self._has(step) for step in grid if step <= log.step):
            return _Log(), None
        trained = _trained(model)
        optimizer = make_optimizer(trained.values(), self._recipe.schedule)
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(tensors[f"weight/{name}"])
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(log.step)),
                    "exp_avg": tensors[f"first/{name}"],
                    "exp_avg_sq": tensors[f"second/{name}"],
                }
        return log, optimizer


def grid_of(total: int, every: int | None) -> tuple[int, ...]:
    """The steps of the checkpoints: 0, every so many, and the last one."""
    every = min(total, every or -(-total // _CHECKPOINTS))
    return tuple(dict.fromkeys([*range(0, total + 1, every), total]))


def _trained(model: Any) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


@contextmanager
def _as_built() -> Iterator[None]:
    """What a build computes with: one thread, and no denormals. Other sums round otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)
