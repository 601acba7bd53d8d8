"""`afbench schema`."""

from __future__ import annotations

from afbench.cli.output import print_json


def schema() -> None:
    """Print the JSON Schema of a result record."""
    from afbench.results.record import record_schema

    print_json(record_schema())
