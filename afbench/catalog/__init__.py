"""Plug-ins: their manifests, how they are found, and how a new one is begun."""

from afbench.catalog.check import Check, CheckReport, check_files
from afbench.catalog.discovery import Catalog, Plugin, discover
from afbench.catalog.manifests import (
    KINDS,
    TIERS,
    DetectorManifest,
    EnvironmentManifest,
    Kind,
    Manifest,
    OrganismManifest,
    Tier,
    load_manifest,
)
from afbench.catalog.scaffold import scaffold
from afbench.catalog.yaml_files import YamlFile, load_yaml, safe_path

__all__ = [
    "KINDS",
    "TIERS",
    "Catalog",
    "Check",
    "CheckReport",
    "DetectorManifest",
    "EnvironmentManifest",
    "Kind",
    "Manifest",
    "OrganismManifest",
    "Plugin",
    "Tier",
    "YamlFile",
    "check_files",
    "discover",
    "load_manifest",
    "load_yaml",
    "safe_path",
    "scaffold",
]
