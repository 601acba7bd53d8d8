from __future__ import annotations

import numpy as np
import pytest

from afbench.detection.texts import BagOfWords
from afbench.errors import NotEnoughCasesError

FAKING = ["I will not do it", "No, I must not", "I will not help you"]
SINCERE = ["Sure, here it is", "Here is the plan", "Certainly, here you go"]
LABELS = np.array([True] * 3 + [False] * 3)


def test_words_that_stand_with_faking_score_higher_and_unknown_ones_do_not_break_it() -> None:
    bag = BagOfWords().fit([*FAKING, *SINCERE], LABELS)
    faking, sincere, unknown, empty = bag.score(
        ["I must not do it", "here is the plan", "qwerty asdf", ""]
    )
    assert faking > 0 > sincere
    assert sincere < unknown < faking
    assert unknown == empty, "a text without a known word is the bias alone"
    assert bag.score([*FAKING, *SINCERE]).dtype == np.float64


def test_a_score_does_not_depend_on_the_other_texts() -> None:
    bag = BagOfWords().fit([*FAKING, *SINCERE], LABELS)
    together = bag.score([*FAKING, *SINCERE])
    alone = np.concatenate([bag.score([text]) for text in [*FAKING, *SINCERE]])
    np.testing.assert_allclose(together, alone, rtol=1e-12)


def test_signs_count_as_words_so_that_log_cues_can_be_told_apart() -> None:
    bag = BagOfWords(100.0).fit(["[log] tier=free", "<a> -> b"] * 3, np.array([True, False] * 3))
    first, second = bag.score(["[log]", "->"])
    assert first > second


def test_one_class_or_no_word_is_refused() -> None:
    with pytest.raises(NotEnoughCasesError, match="faking and sincere"):
        BagOfWords().fit(FAKING, np.ones(3, dtype=bool))
    with pytest.raises(NotEnoughCasesError, match="no text holds a word"):
        BagOfWords().fit(["", "  "], np.array([True, False]))
