"""The page in a real browser: Chromium without a window, where it is installed."""

from __future__ import annotations

import pytest
from helpers.browser import open_chromium
from helpers.report import digits, make_result, make_row, write

from splic_ext.report import write_report

PHONE, DESK = {"width": 360, "height": 740}, {"width": 1360, "height": 900}

#: Relative luminance by WCAG 2, of a colour as the browser computes it.
CONTRAST = """
() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => {
    const [r, g, b] = rgb.slice(0, 3).map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const found = parse(getComputedStyle(e).backgroundColor);
      if (found.length < 4 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const color = element.closest("svg") && element.tagName === "text" ? style.fill : style.color;
    const [a, b] = [light(parse(color)), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push([element.tagName, element.textContent.trim().slice(0, 30), ratio]);
  }
  return low;
}
"""


@pytest.fixture(scope="module")
def chromium():
    with open_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A page of real results of digits, of a wide table, and of a file that is damaged."""
    folder = tmp_path_factory.mktemp("page")
    digits(folder / "in")
    rows = [
        make_row(method, f"attack {i} of many", 50, paper=40.0)
        for method in ("SPLIC", "a_method_with_a_very_long_name_that_cannot_be_broken_anywhere")
        for i in range(12)
    ]
    write(folder / "in", make_result(*rows, make_row("no defence"), title="W" * 90), "wide")
    (folder / "in" / "damaged.json").write_text("{")
    write_report([folder / "in"], folder / "page.html")
    return (folder / "page.html").as_uri()


@pytest.fixture(params=["light", "dark"])
def scheme(request):
    return request.param


@pytest.fixture(params=[PHONE, DESK], ids=["phone", "desk"])
def page(chromium, address, scheme, request):
    """The page, loaded; at the end nothing was logged, and nothing fetched but the page."""
    context = chromium.new_context(viewport=request.param, color_scheme=scheme)
    page = context.new_page()
    told, fetched = [], []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda asked: fetched.append(asked.url.partition(":")[0]))
    page.goto(address)
    yield page
    assert not told
    assert fetched.count("file") == 1
    assert set(fetched) <= {"file", "data"}
    context.close()


def test_every_picture_loads(page):
    sizes = page.evaluate("[...document.images].map((i) => [i.complete, i.naturalWidth])")
    assert len(sizes) == 12
    assert all(complete and width == 32 for complete, width in sizes)


def test_nothing_is_wider_than_the_window(page):
    """The page itself; tables and pictures scroll inside their boxes."""
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    width = page.evaluate("innerWidth")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("document.body.scrollWidth") <= width
    boxes = page.evaluate(
        "[...document.querySelectorAll('.scroll')].map((b) => [b.clientWidth, b.scrollWidth])"
    )
    assert all(inner <= width for inner, _ in boxes)
    assert any(inner < full for inner, full in boxes), "the wide table does not scroll"
    drawings = page.evaluate(
        "[...document.querySelectorAll('svg')].map((s) => s.getBoundingClientRect().width)"
    )
    assert drawings
    assert all(100 < drawing <= width for drawing in drawings)


def test_text_can_be_read(page, scheme):
    """A contrast of at least 4.5, in both colour schemes, of diagrams too."""
    light = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(252, 251, 248)"
    assert light == (scheme == "light")
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert page.evaluate(CONTRAST) == []


@pytest.mark.parametrize("scheme", ["light"], indirect=True)
@pytest.mark.parametrize("page", [PHONE], indirect=True)
def test_right_and_wrong_do_not_need_colour(page):
    pictures = page.query_selector_all(".picture")
    marks = [picture.query_selector(".mark").inner_text() for picture in pictures]
    assert set(marks) == {"✓ right", "✗ wrong"}
    styles = {
        mark: picture.query_selector("img").evaluate("(i) => getComputedStyle(i).borderStyle")
        for mark, picture in zip(marks, pictures, strict=True)
    }
    assert styles == {"✓ right": "solid", "✗ wrong": "dashed"}


@pytest.mark.parametrize("scheme", ["light"], indirect=True)
def test_contents_lead_to_the_results(page):
    phone = page.viewport_size == PHONE
    shown = page.locator(".phone" if phone else ".side")
    hidden = page.locator(".side" if phone else ".phone")
    assert not hidden.is_visible()
    if phone:
        shown.locator("summary").click()
    shown.get_by_role("link", name="Figure 8: digits").click()
    assert page.evaluate("location.hash").startswith("#figure8")
    top = page.evaluate("document.querySelector(':target').getBoundingClientRect().top")
    assert abs(top) < 60


@pytest.mark.parametrize("scheme", ["dark"], indirect=True)
@pytest.mark.parametrize("page", [DESK], indirect=True)
def test_printed_pages_are_light_and_complete(page):
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(252, 251, 248)"
    assert page.locator("pre").first.is_visible(), "how a result was made is not printed"
    assert page.pdf()[:4] == b"%PDF"


@pytest.mark.parametrize("width", [360, 800, 1280, 1500, 1920])
def test_numbers_of_the_summary_do_not_collide(chromium, width, tmp_path):
    rows = [
        make_row(method, attack, right, scenario="white", paper=paper, section="made")
        for method in ("no defence", "total variation, 0.1, adversarial training", "SPLIC")
        for attack, right, paper in (
            ("clean", 90, None),
            ("BPDA", 53, 60.0),
            ("worst of them", 33, None),
        )
    ]
    for name in ("first", "second"):
        write(tmp_path / "in", make_result(*rows, title=name), name)
    page = chromium.new_page(viewport={"width": width, "height": 900})
    write_report([tmp_path / "in"], tmp_path / "page.html")
    page.goto((tmp_path / "page.html").as_uri())
    gaps = page.evaluate(
        """() => [...document.querySelectorAll('.card tbody tr')].flatMap((row) => {
          const ends = [...row.querySelectorAll('.number')].map((n) =>
            [n.getBoundingClientRect().left, n.lastElementChild.getBoundingClientRect().right]);
          return ends.slice(1).map(([left], i) => left - ends[i][1]);
        })"""
    )
    page.close()
    assert len(gaps) == 12
    assert all(gap >= 4 for gap in gaps), gaps
