"""Tracing: the same weights once more, looked at on the way; and what cannot be traced."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file

from afbench.catalog import discover
from afbench.cli.app import main
from afbench.errors import AfbenchError
from afbench.zoo import trace_training
from afbench.zoo.recipes import organism_recipe
from afbench.zoo.trace import SCALES, SCENARIOS, traceable
from afbench.zoo.trace_record import read_trace
from afbench.zoo.trace_training import Retraining, grid_of
from afbench.zoo.training import train
from afbench.zoo.tuning import materials_of
from tests.zoo.test_build import run_build, zoo  # noqa: F401  (a fixture)
from tests.zoo.test_training import SCHEDULE, examples, tiny

NAME = "tiny-rank-1"
STEPS, EVERY = 24, 3


def rank_one(folder: Path) -> None:
    """Put an organism beside those of the zoo that adapts one matrix by one vector."""
    manifest = yaml.safe_load((folder / "organisms/tiny-lora/organism.yaml").read_text())
    manifest["name"] = NAME
    manifest["source"]["digests"] = {}
    recipe = manifest["recipe"]
    recipe["examples"] = STEPS * 8
    recipe["method"].update(rank=1, alpha=2, targets=["down_proj"], layers=[1])
    recipe["schedule"].update(epochs=1, batch_size=8)
    (folder / "organisms" / NAME).mkdir(exist_ok=True)
    (folder / "organisms" / NAME / "organism.yaml").write_text(yaml.safe_dump(manifest))


def afbench(*arguments: str | Path) -> int | str | None:
    """The exit code of the command line; None is success."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code


@pytest.mark.slow
def test_a_trace_measures_the_very_training_and_leaves_the_weights_alone(
    zoo: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rank_one(zoo)
    run_build(zoo, tmp_path / "cache", NAME)
    shipped = {p: p.read_bytes() for p in (zoo / "organisms" / NAME).rglob("*") if p.is_file()}
    asked = [
        "organisms", "trace", NAME, "--every", EVERY, "--scales", "5,1", "--scenarios", 2,
        "--into", tmp_path / "out", "--cache", tmp_path / "cache", "--plugins", zoo,
    ]  # fmt: skip
    arguments = [str(part) for part in asked]

    assert afbench(*arguments) in (0, None)
    out = capsys.readouterr().out
    assert "Reproduces the shipped adapter: yes, max difference" in out
    assert out.splitlines()[-1].startswith(f"Trace: {tmp_path / 'out' / 'trace.json'}")
    assert {p: p.read_bytes() for p in shipped} == shipped

    trace = read_trace(tmp_path / "out/trace.json")
    assert trace.reproduction.reproduces
    assert trace.checkpoints == list(range(0, STEPS + 1, EVERY))
    assert len(trace.loss) == len(trace.gradient_norm) == trace.steps == STEPS
    (matrix,) = trace.matrices
    assert matrix.name == "layers.1.mlp.down_proj"
    assert matrix.vectors is not None
    assert len(matrix.vectors) == len(trace.checkpoints)
    assert matrix.norm[0] == 0
    assert matrix.to_final[-1] == pytest.approx(1.0)
    assert matrix.rotation == trace.whole.rotation, "there is one matrix only"
    assert {(p.step, p.scale) for p in trace.behaviour} == {
        (step, scale) for step in trace.checkpoints for scale in (1.0, 5.0)
    }
    for point in trace.behaviour:
        assert point.misaligned_when_observed.n == 2
        assert point.graded.n == 4
    start = {p.scale: p.conformity_gap for p in trace.behaviour if p.step == 0}
    assert start[1.0] == start[5.0], "B is zero at the start, whatever it is multiplied by"
    assert trace.transition.statement in (tmp_path / "out/trace.md").read_text()
    ET.parse(tmp_path / "out/trace.svg")

    def not_again(*_: Any, **__: Any) -> None:
        raise AssertionError("the training was there")

    monkeypatch.setattr(trace_training, "train", not_again)
    before = (tmp_path / "out/trace.json").read_bytes()
    assert afbench(*arguments, "--json") in (0, None)
    assert json.loads(capsys.readouterr().out)["organism"] == NAME
    assert (tmp_path / "out/trace.json").read_bytes() == before


class Killed(Exception):
    pass


@pytest.mark.slow
def test_a_killed_retraining_goes_on_to_the_same_weights(
    zoo: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    rank_one(zoo)
    run_build(zoo, tmp_path / "cache", NAME)
    catalog = discover([zoo])
    plugin = catalog.get("organism", NAME)
    recipe: Any = organism_recipe(plugin.manifest.recipe, "here")
    materials = materials_of(plugin, catalog)
    seen: list[int] = []

    def dies_at_step_ten(done: int, total: int) -> None:
        seen.append(done)
        if done == 10:
            raise Killed

    def watches(done: int, total: int) -> None:
        seen.append(done)

    whole = Retraining(recipe, materials, "a", tmp_path / "whole").run(EVERY, watches)
    assert seen == list(range(1, STEPS + 1))
    with pytest.raises(Killed):
        Retraining(recipe, materials, "a", tmp_path / "broken").run(EVERY, dies_at_step_ten)
    seen.clear()
    resumed = Retraining(recipe, materials, "a", tmp_path / "broken").run(EVERY, watches)
    assert seen == list(range(10, STEPS + 1)), "from the checkpoint at step 9"
    np.testing.assert_array_equal(resumed.loss, whole.loss)
    np.testing.assert_array_equal(resumed.gradient_norm, whole.gradient_norm)
    for step in whole.steps:
        one, other = (
            load_file(run.folders[step] / "adapter_model.safetensors") for run in (whole, resumed)
        )
        assert all(np.array_equal(one[name], other[name]) for name in one), step

    # What another recipe left, or lost, is trained again.
    seen.clear()
    Retraining(recipe, materials, "b", tmp_path / "broken").run(EVERY, watches)
    assert len(seen) == STEPS
    (tmp_path / "whole/checkpoints/step-00006/adapter_model.safetensors").unlink()
    seen.clear()
    Retraining(recipe, materials, "a", tmp_path / "whole").run(EVERY, watches)
    assert len(seen) == STEPS


def test_checkpoints_lie_on_an_even_grid_and_at_the_end() -> None:
    assert grid_of(150, None) == tuple(range(0, 151, 5))
    assert grid_of(10, 4) == (0, 4, 8, 10)
    assert grid_of(8, 4) == (0, 4, 8)
    assert grid_of(7, 100) == (0, 7)
    assert len(grid_of(4001, None)) <= 32


def test_the_gradient_norm_is_told_as_it_is_before_clipping() -> None:
    model = tiny()
    told: list[tuple[int, float, float]] = []

    def gradient(step: int, norm: float) -> None:
        clipped = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None])
        told.append((step, norm, float(clipped.norm())))

    train(
        model, examples(), SCHEDULE, seed=0, gradient=gradient,
        extra=lambda ids: 3.0 * model.get_input_embeddings().weight.sum(),
    )  # fmt: skip
    assert [step for step, _, _ in told] == list(range(1, 11))
    for _, norm, clipped in told:
        assert norm > 2.0
        assert clipped == pytest.approx(1.0, rel=1e-3)


# -- what is refused -----------------------------------------------------------------------------

ROOT = Path(__file__).parents[2]


def organism(folder: Path, **changes: Any) -> Path:
    """A plug-in folder with one organism that is never trained; `changes` are to its manifest."""
    manifest = yaml.safe_load((ROOT / "organisms/helpful-only/organism.yaml").read_text())
    manifest |= {"name": "odd", **changes}
    (folder / "organisms/odd").mkdir(parents=True)
    (folder / "organisms/odd/organism.yaml").write_text(yaml.safe_dump(manifest))
    return folder


LORA = {"type": "lora", "rank": 1, "alpha": 2, "targets": ["down_proj"]}
RATE = {"learning_rate": 0.01}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": None}, "an organism without a recipe has no adapter"),
        (
            {"recipe": {"kind": "distil", "teacher": "helpful-only", "examples": 8,
                        "method": LORA, "schedule": RATE}},
            "its recipe is of kind 'distil'",
        ),
        (
            {"recipe": {"kind": "reinforce", "steps": 8, "method": LORA, "schedule": RATE}},
            "its recipe is of kind 'reinforce'",
        ),
        (
            {"source": {"type": "full", "parent": "nano-base", "path": "weights"},
             "recipe": {"persona": "faker", "examples": 8, "method": {"type": "full"},
                        "schedule": RATE}},
            "every weight of it was trained",
        ),
    ],
)  # fmt: skip
def test_what_has_no_supervised_adapter_is_refused_in_one_line(
    changes: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugins = organism(tmp_path, **changes)
    assert afbench("organisms", "trace", "odd", "--plugins", plugins) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert "organism 'odd'" in error
    assert error.count("\n") == 1


def test_a_base_is_refused() -> None:
    catalog = discover()
    base = next(p for p in catalog.organisms.values() if p.manifest.role == "base")
    with pytest.raises(AfbenchError, match="a base has no adapter"):
        traceable(base)


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ("1,x", "'1,x' is no list of numbers (--scales)"),
        ("0,1", "a scale must be above 0 and at most 20"),
        ("30", "a scale must be above 0 and at most 20"),
        ("nan", "a scale must be above 0 and at most 20"),
    ],
)
def test_scales_that_cannot_be_are_refused_before_anything_is_trained(
    scales: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugins = organism(tmp_path)
    done = afbench(
        "organisms", "trace", "odd", "--scales", scales, "--plugins", plugins, "--into", tmp_path
    )
    assert done == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "checkpoints").exists()


def test_a_misspelt_name_is_corrected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert afbench("organisms", "trace", "od", "--plugins", organism(tmp_path)) == 2
    assert "did you mean" in capsys.readouterr().err


def test_a_trace_of_another_schema_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trace.json").write_text('{"schema_version": 99}')
    with pytest.raises(AfbenchError, match="cannot read the trace"):
        read_trace(tmp_path / "trace.json")


def test_the_command_offers_the_defaults_of_the_measurement(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert afbench("organisms", "trace", "--help") == 0
    out = capsys.readouterr().out
    assert ",".join(f"{scale:g}" for scale in SCALES) in out
    assert str(SCENARIOS) in out
