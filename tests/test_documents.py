"""What the documents say exists: files, keys, modules and the command CI runs."""

import pathlib
import re

import pytest

from clim_jax.configs import base
from clim_jax.experiment.configuration import flatten

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
# All but those that tell of what is no more.
OF_TODAY = [page for page in PAGES if page.stem not in ("removed", "CHANGELOG")]
CONFIGS = sorted((ROOT / "configs").rglob("*.py"))
KEYS = set(flatten(base.get_config()))
SECTIONS = {key.rsplit(".", 1)[0] for key in KEYS}


def name(path: pathlib.Path) -> str:
  return str(path.relative_to(ROOT))


def heads(page: pathlib.Path) -> set[str]:
  """Anchors that a page's headings have on GitHub."""
  titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
  return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def keys_named(text: str) -> set[str]:
  return set(re.findall(r"--config\.((?:[a-z_0-9]+\.)*[a-z_0-9]+)=", text))


def test_readme_is_short():
  assert len(README.read_text().splitlines()) <= 180


def test_performance_page_is_short():
  page = ROOT / "docs" / "performance.md"
  assert len(page.read_text().splitlines()) <= 100


def test_readme_has_the_command_that_ci_runs():
  block = r"<!-- test command -->\n```bash\npython3 .* pytest .*\n```\n<!-- end -->\n"
  assert re.search(block, README.read_text())


def links(page: pathlib.Path) -> list[str]:
  return re.findall(r"\]\((?!https?:)([^)]*)\)", page.read_text())


def test_every_page_can_be_reached_from_the_readme():
  reached, ahead = set(), [README]
  while ahead:
    page = ahead.pop()
    reached.add(page)
    pages = [(page.parent / link.partition("#")[0]).resolve() for link in links(page)]
    ahead += {one for one in pages if one.suffix == ".md"} - reached
  assert set(PAGES) <= reached


def test_every_page_of_docs_is_in_the_site():
  listed = re.findall(r"^ +- .*: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
  docs = ROOT / "docs"
  assert sorted(listed) == sorted(str(p.relative_to(docs)) for p in docs.rglob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
  for target in links(page):
    path, _, head = target.partition("#")
    found = page.parent / path if path else page
    assert found.exists(), target
    assert not head or head in heads(found), target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_paths_named_exist(page):
  paths = r"\b((?:docs|clim_jax|configs|tests|benchmarks)/[\w./-]*\w)"
  for path in re.findall(paths, page.read_text()):
    if "NAME" not in path:
      assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", [*OF_TODAY, *CONFIGS], ids=name)
def test_keys_on_command_lines_exist(page):
  assert keys_named(page.read_text()) <= KEYS | {"some.key"}


@pytest.mark.parametrize("page", OF_TODAY, ids=name)
def test_keys_in_prose_exist(page):
  sections = "|".join({key.split(".")[0] for key in KEYS if "." in key})
  named = re.findall(rf"`((?:{sections})\.[a-z_0-9.]+)(?:=[^`]*)?`", page.read_text())
  assert {key for key in named if not key.endswith(".json")} <= KEYS | SECTIONS


@pytest.mark.parametrize("page", [*PAGES, *CONFIGS], ids=name)
def test_configs_named_exist(page):
  for config in re.findall(r"--config=([\w/.-]+)", page.read_text()):
    if config not in ("NAME", "mine.py") and "NAME" not in config:
      path = config if config.endswith(".py") else f"configs/{config}.py"
      assert (ROOT / path).exists(), config


@pytest.mark.parametrize("config", [c for c in CONFIGS if c.stem != "base"], ids=name)
def test_config_is_listed(config):
  page = "evaluation" if config.parent.name == "evaluate" else "configs"
  folder = ROOT / "configs" / ("evaluate" if page == "evaluation" else "")
  short = config.relative_to(folder).with_suffix("")
  assert f"`{short}`" in (ROOT / "docs" / f"{page}.md").read_text()


@pytest.mark.parametrize("config", [c for c in CONFIGS if c.stem != "base"], ids=name)
def test_config_says_its_command(config):
  short = config.relative_to(ROOT / "configs").with_suffix("")
  text = config.read_text().split('"""')[1]
  assert re.search(rf"--config=({short}|{name(config)})[\s:]", text)


def test_imports_in_pages_work():
  """Looked up in the sources: to import each would take a minute."""
  line = re.compile(r"^from (clim_jax[\w.]*) import ([\w ,]+)$", re.MULTILINE)
  for page in PAGES:
    for module, names in line.findall(page.read_text()):
      for one in (part.split(" as ")[0].strip() for part in names.split(",")):
        assert is_in(module, one), f"{name(page)}: {module} has no {one}"


def is_in(module: str, one: str) -> bool:
  path = ROOT / module.replace("clim_jax.configs", "configs").replace(".", "/")
  if (path / one).is_dir() or (path / f"{one}.py").exists():
    return True
  source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
  defined = re.compile(rf"^(?:def |class )?{one}\b|\"{one}\"", re.MULTILINE)
  return source.exists() and bool(defined.search(source.read_text()))


def test_pictures_are_small():
  assert all(p.stat().st_size < 150_000 for p in (ROOT / "docs").rglob("*.png"))
