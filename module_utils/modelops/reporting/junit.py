"""A report as JUnit XML, for a build server: a suite a host, a case a gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from ..base import host_text
from ..judging import gates, table
from . import views

# XML 1.0, 2.2: these code points stand in no document, not even as a reference.
_NEVER = dict.fromkeys((0xFFFE, 0xFFFF, *range(0xD800, 0xE000)))


def xml(found: Mapping[str, Any]) -> bytes:
    """Write a report as JUnit XML, UTF-8.

    A required gate that did not pass is a failure. A promised one that did not, and a gate on what
    the model does not have, are skipped, with the reason: they decide nothing.
    """
    root = ElementTree.Element("testsuites", name=f"release {found['release']}")
    names = table.header(views.kind(found))[1:4]
    for host, rows in found["tables"].items():
        suite = ElementTree.SubElement(root, "testsuite", name=_text(host))
        judged = found["figures"][host]["judged"]
        cases = [_case(suite, names, *both) for both in zip(rows, judged, strict=True)]
        suite.set("tests", str(len(cases)))
        suite.set("failures", str(cases.count("failure")))
        suite.set("skipped", str(cases.count("skipped")))
    ElementTree.indent(root)
    written: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def _case(
    suite: ElementTree.Element, names: Sequence[str], row: Any, judged: Mapping[str, Any]
) -> str:
    """Add a case, its figures by these names; return `failure`, `skipped` or nothing."""
    label, *cells, wanted, verdict = map(_text, row)
    case = ElementTree.SubElement(suite, "testcase", name=f"{label}, {wanted}")
    case.set("classname", suite.get("name", ""))
    figures = "; ".join(
        f"{name} {value}" for name, value in zip(names, cells, strict=True) if value
    )
    kind = ""
    if judged["verdict"] != gates.PASS:
        decides = judged["required"] and judged["verdict"] != gates.NOT_APPLICABLE
        kind = "failure" if decides else "skipped"
        ElementTree.SubElement(case, kind, message=verdict)
    ElementTree.SubElement(case, "system-out").text = figures
    return kind


def _text(value: Any) -> str:
    return host_text.line(value).translate(_NEVER)
