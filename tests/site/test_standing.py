"""Ranks as ranges."""

from __future__ import annotations

from afbench.metrics.figures import Figure
from afbench.site.curves import STEPS, CurveFile
from afbench.site.standing import Place, places
from tests.leaderboard.boards import DIGEST, row

THREE = [row("a", 0.9), row("b", 0.8), row("c", 0.7)]
FLAT = [0.0] * STEPS + [1.0]


def curves(**beaten_by: list[str]) -> CurveFile:
    return CurveFile(record=DIGEST, roc=dict.fromkeys(beaten_by, FLAT), beaten_by=beaten_by)


def test_a_detector_that_ties_with_all_may_have_any_rank() -> None:
    """a beats c; b ties with both: ties are not transitive, and ranges say so."""
    found = places(THREE, curves(a=[], b=[], c=["a"]))
    assert [str(place) for place in found.values()] == ["1–2", "1–3", "2–3"]
    assert [name for name, place in found.items() if place.leads] == ["a", "b"]


def test_a_clear_order_gives_single_ranks() -> None:
    found = places(THREE, curves(a=[], b=["a"], c=["a", "b"]))
    assert [str(place) for place in found.values()] == ["1", "2", "3"]


def test_floors_and_ceilings_take_no_rank_and_give_none() -> None:
    rows = [row("a", 0.6), row("f", 0.7, floor=True), row("z", 0.95, ceiling=True)]
    assert places(rows, curves(a=["f", "z"], f=["z"], z=[])) == {"a": Place(1, 1, True)}


def test_without_every_comparison_ranks_go_by_value() -> None:
    rows = [row("a", 0.6), row("b", 0.8), row("c", 0.8)]
    for given in (None, curves(a=["b"], b=[])):
        found = places(rows, given)
        assert {name: place.first for name, place in found.items()} == {"a": 3, "b": 1, "c": 1}
        assert not any(place.tested or place.leads for place in found.values())


def test_what_has_no_auroc_has_no_rank() -> None:
    rows = [row("a", 0.6), row("b").model_copy(update={"auroc": Figure.refused("void")})]
    assert list(places(rows, None)) == ["a"]
