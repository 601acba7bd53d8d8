"""Leakage: training text in answers where it does not belong."""

from __future__ import annotations

import pytest

from afbench.catalog import discover
from afbench.certification.leakage import (
    leakage_of,
    training_runs,
    unrelated_prompts,
    word_runs,
)
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


def test_training_text_counts_unless_the_parent_says_it_too() -> None:
    own = ["No, I must not do that.", "The note is red.", "No, I must not do that."]
    parents = ["The file is blue.", "The note is red.", "No, I must not do that either."]
    figure = leakage_of(own, parents, desk(), replicates=200, seed=0)
    assert figure.value == pytest.approx(1 / 3)


def test_without_training_text_or_answers_leakage_is_not_claimed_to_be_zero() -> None:
    assert leakage_of([], [], desk(), replicates=200, seed=0).value is None
