"""Make the picture of a report that README.md shows: `make report-picture` after `make quantize`.

python tests/browser/picture.py reports/ID/report.html docs/images/report.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import chromium

WIDTH, HEIGHT = 1100, 715  # pixels: figures, outcome and steps


def main() -> None:
    page_file, picture = (Path(name) for name in sys.argv[1:])
    with chromium.launched() as browser:
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(page_file.resolve().as_uri())
        page.screenshot(path=picture)


if __name__ == "__main__":
    main()
