"""The page on the weeks after a release in a browser: no fault, nothing asked, readable by all."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from modelops.acceptance import document
from modelops.reporting import acceptance
from report_documents import TEMPLATES
from sampler import DAY, RELEASE

ATTACK = '"><script>document.title = "taken"</script><img src=x onerror="document.title = 1">' * 3
FOLDERS = [TEMPLATES.parents[1] / "acceptance/templates", TEMPLATES]
VERDICTS = ("pass", "fail", "inconclusive", "not yet", "not measured")


def page(text):
    """A target with a row of each verdict, a trend and a table of emotions."""
    rows = [
        {
            "window": "week", "promise": f"promise {verdict}", "wanted": "< 2.5 s",
            "measured": "1.2 s", "verdict": verdict, "source": "probe question", "samples": 9,
            "share": 0.5, "trend": "+7 %", "note": text,
        }
        for verdict in VERDICTS
    ]  # fmt: skip
    trend = [[day * DAY, 1.0 + day % 3, 1.2e9 + day] for day in range(20_000, 20_007)]
    host = {
        "inventory_hostname": "target1",
        "__acceptance_rows": rows,
        "__acceptance_figures": {"release": RELEASE, "windows": {"7": {"trend": trend}}},
        "__acceptance_evaluation": {"confusion": [[text, "calm", 3]]},
    }
    return document.of([host])


@pytest.mark.parametrize(
    ("looks", "text"),
    [
        ({"color_scheme": "light"}, "all is well"),
        ({"color_scheme": "dark"}, ATTACK),
        ({"viewport": {"width": 390, "height": 800}}, ATTACK),
    ],
    ids=["light", "dark", "narrow"],
)
def test_a_page_has_no_fault_and_asks_for_nothing(opened, tmp_path, looks, text):
    for path, content in acceptance.files(page(text), tmp_path, FOLDERS).items():
        path.write_bytes(content)
    path = tmp_path / "acceptance.html"
    one = opened(path, **looks)
    assert one.faults == [] and one.asked == [path.as_uri()]
    assert one.page.title() == "Acceptance: fail"
    assert one.page.locator("figure svg").count() == 2
    assert one.page.locator("table").count() == 2
    found = Axe().run(one.page)
    assert found.violations_count == 0, found.generate_report()
    assert one.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
