"""Detection: the detector contract, parts that detectors share, and the guarded harness.

A plug-in's detector.py imports from here; torch and scikit-learn are loaded when a part that needs
them is.
"""

from afbench.cases.case import Case
from afbench.detection.detector import Detector

__all__ = ["Case", "Detector"]
