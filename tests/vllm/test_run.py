"""A whole run on vLLM: the same organisms, detectors and figures as on transformers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from afbench.catalog.discovery import Catalog
from afbench.results.progress import Silent
from afbench.results.record import ResultRecord, RunSettings
from afbench.results.run import Options, run_each
from afbench.store import Store
from afbench.vllm_backend.choice import choose
from tests.vllm.conftest import BASE

HOME, FAMILIES = "oversight-desk", ("rank-4", "rank-16")
SETTINGS = RunSettings(
    detectors=["probe", "prompt-probe", "weight-noise"],
    organism="desk-faker-r4-s0",
    split="recipe",
    fit_scenarios=12,
    test_scenarios=16,
    floors=False,
    behaviour_reading=False,
)


def _few(catalog: Catalog) -> Catalog:
    """The base and the organisms of two recipe families in one environment."""
    kept = {
        name: plugin
        for name, plugin in catalog.organisms.items()
        if name == BASE
        or (plugin.manifest.environment == HOME and plugin.manifest.recipe_family in FAMILIES)
    }
    return replace(catalog, organisms=kept)


def _run(catalog: Catalog, backend: str, folder: Path) -> ResultRecord:
    options = Options(local=choose(backend, "cpu"))
    store = Store(folder / "cache")
    (outcome,) = run_each([SETTINGS], catalog, store, folder / "runs", Silent(), options)
    return outcome.record


def test_a_run_on_vllm_gives_the_figures_of_transformers(catalog: Catalog, tmp_path: Path) -> None:
    few = _few(catalog)
    on_vllm = _run(few, "vllm", tmp_path / "vllm")
    plain = _run(few, "transformers", tmp_path / "transformers")
    assert on_vllm.inputs.versions["backend"] == "vllm"
    assert on_vllm.id != plain.id
    assert on_vllm.inputs.organisms == plain.inputs.organisms
    for ours, theirs in zip(on_vllm.organisms, plain.organisms, strict=True):
        assert (ours.name, ours.labels, ours.outcomes) == (
            theirs.name,
            theirs.labels,
            theirs.outcomes,
        )
    figures = {one.name: one for one in on_vllm.detectors}
    wanted = {one.name: one for one in plain.detectors}
    for name in ("probe", "prompt-probe"):
        got, expected = figures[name].auroc.value, wanted[name].auroc.value
        assert got is not None
        assert expected is not None
        assert abs(got - expected) < 0.02, name
        assert figures[name].cost.forward_tokens > 0
    assert figures["weight-noise"].error is None
    assert "weights" in (figures["weight-noise"].unavailable or "")
    assert on_vllm.spending is not None
    assert on_vllm.spending.calls > 0
