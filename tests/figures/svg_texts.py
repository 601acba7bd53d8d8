"""What the tests of the figures read off an SVG."""

from __future__ import annotations

import xml.etree.ElementTree as ET

_SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> set[str]:
    """Every line of text that a reader sees; fails where the SVG is no XML."""
    nodes = ET.fromstring(svg).iter(f"{_SVG}text")
    return {line for node in nodes for line in node.itertext() if line.strip()}


def alternative(svg: str) -> tuple[str, str]:
    """The title and the description, as the picture's root refers to them."""
    root = ET.fromstring(svg)
    names = root.attrib["aria-labelledby"].split()
    by_id = {node.get("id"): node.text or "" for node in root if node.get("id")}
    assert root.attrib["role"] == "img"
    return by_id[names[0]], by_id[names[1]]


def size(svg: str) -> tuple[float, float]:
    """Width and height in pixels."""
    root = ET.fromstring(svg)
    return float(root.attrib["width"]), float(root.attrib["height"])
