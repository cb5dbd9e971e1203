"""The pages of the report in a browser: no fault, nothing asked, all seen, readable by all."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from modelops.reporting import folder
from report_documents import TEMPLATES, document

ATTACK = '"><script>document.title = "taken"</script><img src=x onerror="document.title = 1">' * 3


def releases(folder_of_reports, text):
    """Write two releases, so that there is a history; return the folder of the newest one."""
    for digit in ("0b", "0a"):
        report = document(text, digit=digit)
        made, files = folder.wanted(folder_of_reports, report, TEMPLATES, check_mode=False)
        folder.write(files, check_mode=False)
    return folder_of_reports / made["release"]


@pytest.fixture
def site(tmp_path):
    return releases(tmp_path, "AMD EPYC")


@pytest.mark.parametrize(
    ("name", "looks", "text"),
    [
        ("report.html", {"color_scheme": "light"}, "AMD EPYC"),
        ("report.html", {"color_scheme": "dark"}, ATTACK),
        ("report.html", {"viewport": {"width": 390, "height": 800}}, ATTACK),
        ("../index.html", {"color_scheme": "dark"}, ATTACK),
    ],
    ids=["light", "dark", "narrow", "index"],
)
def test_a_page_has_no_fault_and_asks_for_nothing(opened, tmp_path, name, looks, text):
    path = (releases(tmp_path, text) / name).resolve()
    one = opened(path, **looks)
    assert one.faults == [] and one.asked == [path.as_uri()]
    assert one.page.title().startswith(("Release ", "All releases"))
    found = Axe().run(one.page)
    assert found.violations_count == 0, found.generate_report()
    # The page itself never scrolls sideways; a wide table does in its own frame.
    assert one.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_tables_and_plots_are_there_and_have_a_size(opened, site):
    page = opened(site / "report.html").page
    plots = page.locator("figure svg")
    assert plots.count() == 7  # three of each host, and the time line
    for plot in plots.all():
        box = plot.bounding_box()
        assert box["width"] > 200 and box["height"] > 100
        assert plot.locator("path, rect, circle").count() > 4
    for table in page.locator("table").all():
        assert table.locator("tbody tr").count() > 0
    assert page.locator("ol.steps li").count() == 8
    page.get_by_text("Nodes that stay in FP32, and why").click()
    assert page.get_by_text("it has no constant weight").is_visible()


def test_dark_is_dark_and_a_print_is_light(opened, site):
    page = opened(site / "report.html", color_scheme="dark").page
    back = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(back) == "rgb(20, 23, 26)"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(back) == "rgb(255, 255, 255)"
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_the_links_of_the_index_lead_to_the_reports(opened, site):
    page = opened((site / "../index.html").resolve()).page
    page.get_by_role("link", name=site.name).click()
    assert page.get_by_role("heading", level=1).inner_text().startswith(f"Release {site.name}")
    page.get_by_role("link", name="report.json").wait_for()
