"""A picture of matplotlib's as an SVG element that stands inside a page.

Colours and fonts are the page's own: what is drawn in a placeholder's colour comes out
as a CSS variable, so one picture serves the light and the dark page.
"""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

__all__ = [
    "GRID",
    "INK",
    "MARK",
    "MUTED",
    "RAMP",
    "SECOND",
    "SERIES",
    "SOFT",
    "THIRD",
    "to_svg",
]

# Any colours will do that nothing else has.
INK, MUTED, GRID = "#000001", "#000002", "#000003"
SERIES, SOFT, MARK = "#000004", "#000005", "#000006"
SECOND, THIRD = "#000007", "#000008"
# From little to much.
RAMP = ("#000010", "#000011", "#000012", "#000013", "#000014")
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    SERIES: "var(--series)",
    SOFT: "var(--soft)",
    MARK: "var(--mark)",
    SECOND: "var(--second)",
    THIRD: "var(--third)",
    **{colour: f"var(--ramp-{place})" for place, colour in enumerate(RAMP)},
}
_FONT_FAMILY = re.compile(r" ?font-family:[^;]*;?")
_DECIMALS = re.compile(r"(\.\d\d)\d+")
_COLOUR = re.compile("|".join(_VARIABLES))
_REFERENCE = re.compile(r"(?<=#)[\w.-]+")


def to_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """The picture as an element of a page, without a name that others could have."""
    buffer = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(buffer.getvalue())
    _strip(root)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib.update(
        {
            "role": "img",
            "aria-labelledby": f"{name}-title {name}-description",
        }
    )
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        suffix = "description" if tag == "desc" else tag
        element = ElementTree.Element(tag, {"id": f"{name}-{suffix}"})
        element.text = text
        root.insert(place, element)
    return ElementTree.tostring(_prefixed(root, name), encoding="unicode")


def _strip(element: ElementTree.Element) -> None:
    """Takes out namespaces, metadata, page-wide styles, and digits no eye can see."""
    for child in list(element):
        if child.tag.rpartition("}")[2] in ("metadata", "style"):
            element.remove(child)
        else:
            _strip(child)
    element.tag = element.tag.rpartition("}")[2]
    # White space between elements; text has none around it.
    element.text = (element.text or "").strip() or None
    element.tail = None
    attributes = {}
    for key, text in element.attrib.items():
        key = key.rpartition("}")[2]
        if key == "style":
            text = _FONT_FAMILY.sub("", text)
            text = _COLOUR.sub(lambda match: _VARIABLES[match.group()], text)
        if key in ("d", "x", "y", "transform"):
            text = _DECIMALS.sub(r"\1", text).replace("\n", "")
        attributes[key] = text
    element.attrib.clear()
    element.attrib.update(attributes)


def _prefixed(root: ElementTree.Element, name: str) -> ElementTree.Element:
    """Gives what is referred to a name of its own in the page, and others none."""
    for element in root.iter():
        identity = element.attrib.pop("id", None)
        if identity is not None and element.tag not in ("g",):
            own = identity.startswith(f"{name}-")
            element.set("id", identity if own else f"{name}-{identity}")
        for key in ("href", "clip-path"):
            if key in element.attrib:
                element.set(key, _REFERENCE.sub(rf"{name}-\g<0>", element.attrib[key]))
    return root
