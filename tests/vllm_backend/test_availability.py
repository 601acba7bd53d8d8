from __future__ import annotations

import pytest

from afbench.catalog.discovery import Catalog
from afbench.errors import AfbenchError
from afbench.vllm_backend import availability
from afbench.vllm_backend.store import VllmStore


def test_without_vllm_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "_DISTRIBUTIONS", ("no-such-distribution",))
    with pytest.raises(AfbenchError, match="vLLM is not installed.*afbench.vllm"):
        VllmStore(Catalog())
    assert not availability.chosen_automatically()
