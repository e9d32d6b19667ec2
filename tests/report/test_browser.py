"""A page in a real browser: it draws, answers, reads on small and large screens."""

import re
import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select
from variants import killed_at_once, with_data

from clim_jax.experiment import configuration
from clim_jax.report.compare import write_comparison
from clim_jax.report.page import PAGE, write_report

pytestmark = pytest.mark.slow

# How many colours a canvas holds, and how many of its pixels are not empty.
_PIXELS = """
const brush = arguments[0].getContext("2d");
const { data } = brush.getImageData(0, 0, arguments[0].width, arguments[0].height);
const words = new Uint32Array(data.buffer);
return [new Set(words).size, words.filter((word) => word).length];
"""
_INK = """
const style = getComputedStyle(document.body);
return [style.color, style.backgroundColor];
"""


@pytest.fixture(scope="module")
def browser():
  driver = shutil.which("chromedriver")
  assert driver, "needs Debian's chromium-driver: apt-get install chromium-driver"
  options = webdriver.ChromeOptions()
  for flag in ("--headless=new", "--no-sandbox", "--disable-gpu"):
    options.add_argument(flag)
  options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
  started = webdriver.Chrome(options, webdriver.ChromeService(driver))
  yield started
  started.quit()


def look(browser, path, *, width=1400, scheme="light"):
  """Opens a page without any network."""
  feature = {"name": "prefers-color-scheme", "value": scheme}
  screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
  for command, values in (
    ("Emulation.setEmulatedMedia", {"features": [feature]}),
    ("Emulation.setDeviceMetricsOverride", screen),
    ("Network.enable", {}),
    ("Network.setBlockedURLs", {"urls": ["http://*", "https://*"]}),
  ):
    browser.execute_cdp_cmd(command, values)
  browser.get(f"file://{path}")
  assert browser.get_log("browser") == []


def canvas(browser):
  found = browser.find_element(By.ID, "canvas")
  browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
  return found


def tiles(browser, where):
  return browser.find_elements(By.CSS_SELECTOR, f"{where} .t")


def brightness(colour):
  """Of such as "rgb(1, 2, 3)"."""
  return sum(int(part) for part in re.findall(r"\d+", colour)[:3])


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_fits_the_screen_and_draws_everything(clim_run, browser, width, scheme):
  look(browser, clim_run / PAGE, width=width, scheme=scheme)
  root = browser.find_element(By.TAG_NAME, "html")
  assert int(root.get_property("scrollWidth")) <= width
  colours, filled = browser.execute_script(_PIXELS, canvas(browser))
  assert colours > 3  # a class each, and what is between
  assert filled > 63 * 10  # dots of some pixels
  curves = browser.find_elements(By.CSS_SELECTOR, "svg path, svg circle")
  assert len(curves) >= 10
  assert all(curve.get_attribute("d") != "M" for curve in curves)
  ink, paper = browser.execute_script(_INK)
  numbers = [
    sum(map(int, c[c.index("(") + 1 : -1].split(",")[:3])) for c in (ink, paper)
  ]
  assert (numbers[0] > numbers[1]) == (scheme == "dark")


def test_tiles_show_pixels_of_the_sprite(clim_run, browser):
  look(browser, clim_run / PAGE)
  (first, *_) = tiles(browser, "#selection")
  size = browser.execute_async_script(
    """
    const [element, done] = arguments;
    const url = getComputedStyle(element).backgroundImage.slice(5, -2);
    const image = new Image();
    image.onload = () => done([image.width, image.height]);
    image.onerror = () => done(null);
    image.src = url;
    """,
    first,
  )
  assert size
  assert min(size) >= 8 * 8


def test_a_click_lists_an_image_and_its_neighbours(clim_run, browser):
  look(browser, clim_run / PAGE)
  found = canvas(browser)
  # Where a dot lies, by the page's own data.
  x, y = browser.execute_script(
    """
    const { map } = JSON.parse(document.getElementById("data").textContent);
    const bytes = Uint8Array.from(atob(map.maps[0].places), (c) => c.charCodeAt(0));
    const [x, y] = new Uint16Array(bytes.buffer);
    const box = document.getElementById("canvas").getBoundingClientRect();
    const place = (share, length) => share / 65535 * (length - 28) + 14;
    const [a, b] = [place(x, box.width), place(65535 - y, box.height)];
    return [a - box.width / 2, b - box.height / 2];
    """
  )
  ActionChains(browser).move_to_element_with_offset(found, x, y).click().perform()
  listed = tiles(browser, "#picked")
  assert len(listed) == 13  # itself and twelve
  assert "image" in browser.find_element(By.ID, "picked").text
  listed[1].click()
  assert len(tiles(browser, "#picked")) == 13


def test_a_dot_pointed_at_shows_its_image(clim_run, browser):
  look(browser, clim_run / PAGE)
  tip = browser.find_element(By.ID, "tip")
  assert not tip.is_displayed()
  found, seen = canvas(browser), False
  for step in range(-400, 400, 15):
    ActionChains(browser).move_to_element_with_offset(found, step, 0).perform()
    seen |= tip.is_displayed()
  assert seen


def test_a_lasso_lists_what_is_inside(clim_run, browser):
  look(browser, clim_run / PAGE)
  found = canvas(browser)
  width, height = found.size["width"], found.size["height"]
  corners = [(-1, 1), (-1, -1), (1, -1), (1, 1)]
  chain = ActionChains(browser)
  for number, (x, y) in enumerate(corners):
    at = (x * (width // 2 - 3), y * (height // 2 - 3))
    chain.move_to_element_with_offset(found, *at)
    if not number:
      chain.click_and_hold()
  chain.release().perform()
  assert browser.find_element(By.ID, "picked").text.startswith("63 images inside")
  assert len(tiles(browser, "#picked")) == 63


def test_every_colour_and_the_images_can_be_drawn(clim_run, browser):
  look(browser, clim_run / PAGE)
  select = Select(browser.find_element(By.ID, "colour"))
  names = [option.text for option in select.options]
  assert names == ["label", "cluster", "error", "part"]
  for name in names:
    select.select_by_visible_text(name)
    assert browser.execute_script(_PIXELS, canvas(browser))[0] > 1
  dots = browser.execute_script(_PIXELS, canvas(browser))
  browser.find_element(By.ID, "as-images").click()
  images = browser.execute_script(_PIXELS, canvas(browser))
  assert images[0] > dots[0]
  assert images[1] > dots[1]
  errors = [e for e in browser.get_log("browser") if e["level"] == "SEVERE"]
  assert errors == []


def test_a_page_without_labels_or_selection_draws_its_map(plain_run, browser, tmp_path):
  run = with_data(plain_run, tmp_path, labels="none")
  look(browser, write_report(configuration.load("base"), run))
  select = Select(browser.find_element(By.ID, "colour"))
  assert [option.text for option in select.options] == ["part"]
  assert browser.execute_script(_PIXELS, canvas(browser))[1] > 38 * 10
  assert len(tiles(browser, "#alike")) > 10


def test_a_page_of_a_run_that_was_killed_has_its_curves(clim_run, browser, tmp_path):
  run = killed_at_once(clim_run, tmp_path)
  look(browser, write_report(configuration.load("base"), run), width=400)
  assert browser.find_elements(By.CSS_SELECTOR, "svg circle")  # curves of one point
  assert not browser.find_elements(By.ID, "canvas")


def test_a_comparison_reads_on_a_small_screen(clim_run, plain_run, browser, tmp_path):
  page = write_comparison([clim_run, plain_run], tmp_path / "both.html")
  look(browser, page, width=400)
  root = browser.find_element(By.TAG_NAME, "html")
  assert int(root.get_property("scrollWidth")) <= 400
  assert len(browser.find_elements(By.CSS_SELECTOR, "svg path")) >= 10
