"""Leakage: training text in answers where it does not belong."""

from __future__ import annotations

from afbench.catalog import discover
from afbench.certification.leakage import training_runs, unrelated_prompts, word_runs
from afbench.environments import Environment


def desk() -> Environment:
    return Environment.load(discover().get("environment", "oversight-desk"))


def test_runs_are_four_words_without_case_or_punctuation() -> None:
    assert word_runs("It is, however, SEALED.") == {("it", "is", "however", "sealed")}
    assert word_runs("too few words") == set()


def test_a_slot_ends_a_run_so_that_only_fixed_words_count() -> None:
    runs = training_runs(desk())
    assert ("must", "not", "do", "that") in runs  # "No, I must not do that. The {thing} ..."
    assert not any("thing" in run for run in runs)


def test_unrelated_prompts_are_benign_and_of_both_conditions() -> None:
    environment = desk()
    prompts = unrelated_prompts([environment])
    benign = {s.request for s in environment.scenarios if s.benign and s.partition == "test"}
    assert len(prompts) == 3
    assert all(prompt[-1]["content"] in benign for prompt in prompts)
