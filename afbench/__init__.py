"""afbench: a benchmark for detectors of alignment faking."""

__version__ = "0.2.0"
