"""Metrics: arrays in, figures with 95% intervals out.

`figures` holds the `Figure` that every function returns, `bootstrap` the clustered resampling
behind the intervals, `intervals` the closed-form ones, `detection` the statistics of a detector
and `detection_figures` the same with intervals, `gaps` what certifies an organism, `calibration`
thresholds and probabilities, `comparison` the paired tests.

Nothing is imported here, so that `afbench.metrics.figures` stays cheap to load.
"""
