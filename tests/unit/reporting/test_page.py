"""The pages of the report: all parts are there, what a host said is shown, and nothing acts."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from examples import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st
from modelops.reporting import gather, page
from report_documents import TEMPLATES, comparison, document, facts

ATTACK = '\x1b[2J\u202e"><script>alert(1)</script><img src=x onerror=y></table>\n{{ 7 * 7 }}'
PLAIN = "AMD EPYC"


class Elements(HTMLParser):
    """The elements of a page with their attributes' names, in order, and its text."""

    def __init__(self, html):
        super().__init__()
        self.found, self.text = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, *(name for name, _ in attributes)))

    def handle_data(self, data):
        self.text.append(data)


def html(text=PLAIN, **more):
    made = document(text, **more)
    return page.report(made, [made], TEMPLATES)


@settings(max_examples=examples(15))
@given(st.text(st.characters(codec="utf-8"), max_size=30))
@example(ATTACK)
def test_a_page_has_the_elements_that_it_has_of_any_text(text):
    shown = Elements(html(f"x{text}"))  # what is blank is not said
    assert shown.found == Elements(html()).found


def test_what_a_host_said_is_shown_and_does_nothing():
    shown = html(ATTACK)
    assert "<script" not in shown and "<img" not in shown and "49" not in Elements(ATTACK).text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown and "{{ 7 * 7 }}" in shown
    assert "\x1b" not in shown and "\u202e" not in shown


def test_a_page_asks_nothing_of_a_network():
    shown = html()
    assert "default-src 'none'" in shown
    assert not re.search(r"""(?:src|href|url\()=?["'(]?(?:https?:)?//""", shown)
    links = re.findall(r'href="([^"]*)"', shown)
    assert set(links) >= {"../index.html", "report.json", "report.md", "junit.xml"}


@pytest.mark.parametrize("part", [
    "Promised and measured", "How it was measured, and why so", "Latency: share of the runs",
    "Memory of the measured process", "INT8, in % of FP32", "Similarity of each output and sample",
    "Worst channels", "Nodes by form", "it has no constant weight", "Steps of the run",
    "1.1 GB came in 9.8 s, 112.2 MB/s", "5.4 GB", "2.3 GB", "version of onnx", "0a" * 32,
    "serial 7, signed at 2026-01-02T03:04:05Z, verdict pass",
    "avx2, avx512_vnni; without avx512f", "All releases", "1 of 1 targets",
    "too noisy: between 2.4 and 2.9",
])  # fmt: skip
def test_every_part_is_there(part):
    assert part in html()


def test_what_was_not_measured_says_so():
    builder, targets = facts()
    bare = {"judged": comparison()["judged"], "notes": [], "verdict": "inconclusive"}
    builder |= {"__quantize_gate": bare, "__quantize_result": {}}
    made = gather.report({**builder, "__preflight_builder": {}}, [], [])
    shown = page.report(made, [made], TEMPLATES)
    for name in ("Latency", "Memory over time"):
        assert f"<strong>{name}</strong>: not measured" in shown
    assert "It was measured, and not released." in shown
    text = " ".join(" ".join(Elements(shown).text).split())
    assert "The time line not measured" in text
    assert "processor features not measured" in text and "nothing was sent" in text
    assert shown.count("<svg") == 1 and len(targets) == 1  # of the files alone, which are known


def test_a_run_that_knew_no_release_still_has_a_page():
    made = gather.report({"inventory_hostname": "b"}, [{"inventory_hostname": "t"}], [])
    assert "not measured" in page.report(made, [made], TEMPLATES)


def test_the_index_lists_all_releases_the_newest_first_and_their_figures_over_time():
    old, new = document(digit="0b"), document(digit="0c")
    for row in old["timeline"]:
        row["began"] -= 86_400
    other = document(model="other")
    shown = page.index([old, other, new], TEMPLATES)
    assert shown.index(new["release"]) < shown.index(old["release"])
    assert "latency P50 of agi_audio_core" in shown and "of other" not in shown  # one is no history
    assert f'href="{other["release"]}/report.html"' in shown
    own = page.report(new, [old, other, new], TEMPLATES)
    assert f'href="../{old["release"]}/report.html"' in own and other["release"] not in own


def test_memory_that_a_host_tells_in_another_shape_is_not_drawn():
    builder, targets = facts()
    for wrong in ([[1]], [["a", "b"]], [None], "x", {"a": 1}):
        builder["__quantize_gate"]["candidate"]["memory_over_time"] = wrong
        builder["__quantize_gate"]["reference"]["memory_over_time"] = []
        made = gather.report(builder, targets, [])
        assert "<strong>Memory over time</strong>: not measured" in page.report(
            made, [made], TEMPLATES
        )
