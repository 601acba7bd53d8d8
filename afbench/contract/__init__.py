"""Checks that any plug-in can run on itself: does it keep the contract of its kind?"""

from afbench.catalog.check import Check, CheckReport
from afbench.contract.check import check_plugin

__all__ = ["Check", "CheckReport", "check_plugin"]
