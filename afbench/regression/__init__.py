"""Regression checks: is a detector still as good as its baseline says, on the same cases?

`baseline` holds the file and `saving` makes it, `measuring` runs its cells again, `matching` finds
the cases that both sides share, `metrics` says what is compared, `paired` resamples it,
`comparison` gives the verdict, `detectable` says how large a drop would have been found, `check`
puts them together, `report`, `markdown` and `junit` show what came of it, and `pytest_plugin` gives
the fixture.

Nothing is imported here, so that the pytest plug-in stays cheap to load.
"""
