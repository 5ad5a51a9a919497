"""The page in a real browser: without network, without errors, with every plot drawn and every table sortable."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), "")
needs_browser = pytest.mark.skipif(not BROWSER, reason="chromium is not installed")

# Runs after page.js: sorts the first table twice, selects a label on the map, and writes what it sees into the page.
PROBE = """<script>
addEventListener("error", (event) => { document.title += " ERROR " + event.message; });
addEventListener("securitypolicyviolation", (event) => { document.title += " ERROR " + event.blockedURI; });
</script>"""
CHECKS = """<script>{
document.querySelectorAll("details").forEach((entry) => { entry.open = true; });
const seen = [...document.querySelectorAll("svg")].map((svg) => {
  const box = svg.getBoundingClientRect();
  return box.width > 50 && box.height > 50 && svg.querySelectorAll("circle,rect,polyline").length > 0;
});
const table = document.querySelector("#compositions table, #scores table"), heading = table.tHead.rows[0].cells[1];
const column = () => [...table.tBodies[0].rows].map((row) => row.cells[1].dataset.sort).filter(Boolean).map(Number);
heading.click();
const down = column().every((value, index, all) => !index || all[index - 1] >= value);
heading.click();
const up = column().every((value, index, all) => !index || all[index - 1] <= value);
const select = document.querySelector("[data-map]");
select.selectedIndex = 1;
select.dispatchEvent(new Event("change"));
const faded = select.closest(".textmap").querySelectorAll(".spot.faded").length;
const spot = document.querySelector(".spot");
spot.dispatchEvent(new PointerEvent("pointermove", { bubbles: true }));
const tip = document.getElementById("tip");
const wide = document.documentElement.scrollWidth > innerWidth + 1;
document.body.dataset.seen = JSON.stringify({
  plots: seen.length, drawn: seen.filter(Boolean).length, down, up, faded, tip: !tip.hidden && tip.textContent, wide,
});
}</script>"""


def opened(page: Path, folder: Path, width: int) -> str:
    """The page after its scripts have run, in a browser that cannot reach any server."""
    copy = folder / "checked.html"
    text = page.read_text().replace("<head>", f"<head>{PROBE}", 1)
    copy.write_text(text.replace("</body>", f"{CHECKS}</body>", 1))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--window-size={width},900", "--dump-dom", copy.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_browser
@pytest.mark.parametrize(
    ("name", "width"), [("report.html", 1600), ("report.html", 500), ("compositions/full.html", 500)]
)
def test_the_pages_work_in_a_browser_without_network(page: Path, tmp_path: Path, name: str, width: int) -> None:
    text = opened(page.parent / name, tmp_path, width)
    assert "ERROR" not in re.findall(r"<title>(.*?)</title>", text)[0]
    (seen,) = re.findall(r'data-seen="(.*?)"', text)
    values = json.loads(unescape(seen))
    assert values["plots"] > 10 and values["plots"] == values["drawn"]
    assert values["down"] and values["up"] and values["faded"] > 10 and values["tip"]
    assert not values["wide"], "the page is wider than the window"
