"""The site builds without a warning, and its generated pages agree with the code."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from enoto_jax.recipes.registry import KINDS
from experiments import table

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for needed in ("mkdocs", "mkdocstrings", "latex2mathml"):
        pytest.importorskip(needed)
    out = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", out],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    return out


def test_every_document_has_a_page(site):
    for path in (ROOT / "docs").rglob("*.md"):
        page = path.relative_to(ROOT / "docs").with_suffix("")
        folder = page.parent if page.name == "index" else page
        assert (site / folder / "index.html").exists(), page
    for path in (ROOT / "experiments/results").rglob("README.md"):
        page = path.relative_to(ROOT / "experiments").parent
        assert (site / page / "index.html").exists(), page


def test_links_between_documents_and_results_hold(site):
    page = (site / "cheaper_ensembles/index.html").read_text()
    assert 'src="../results/cheap/halfcheetah-medium/levers.png"' in page
    assert (site / "results/cheap/halfcheetah-medium/levers.png").stat().st_size > 10_000
    for page in site.rglob("*.html"):
        for target in re.findall(r'(?:href|src)="([^"#:?]+)["#?]', page.read_text()):
            if page.name != "404.html":
                assert (page.parent / target).exists(), f"{page}: {target}"


def test_nothing_is_fetched_from_elsewhere(site):
    text = (site / "index.html").read_text()
    assert not re.search(r'(?:src=|rel="stylesheet" href=)"https?://', text)


@pytest.mark.parametrize("kind", KINDS)
def test_pages_of_units_are_the_codes(kind):
    assert (ROOT / f"docs/units/{kind}.md").read_text() == table.page(kind)


def test_the_table_of_domains_is_the_codes():
    assert table.domains_table() in (ROOT / "docs/domains.md").read_text()


def test_a_derived_unit_lists_what_differs_from_its_base():
    page = (ROOT / "docs/units/algorithm.md").read_text()
    edac = page.partition("## `edac`")[2].partition("\n## ")[0]
    assert edac.count("\n| `") == 1 and "those of [`sac`](#sac)" in edac


def test_equations_are_typeset(site):
    page = (site / "methods/enoto_cql/index.html").read_text()
    assert 'class="math"><math' in page and "<mtable" in page
    for path in site.rglob("*.html"):
        text = path.read_text()
        assert "arithmatex" not in text and "\\mathrm" not in text, path


def test_every_public_name_is_in_the_reference(site):
    reference = (site / "reference/index.html").read_text()
    stub = (ROOT / "enoto_jax/__init__.pyi").read_text()
    for name in re.findall(r" as (\w+)$", stub, re.MULTILINE):
        assert re.search(rf'id="enoto_jax\.([\w.]+\.)?{name}"', reference), name


def test_every_page_is_in_the_menu(site):
    menu = (site / "index.html").read_text()
    for path in (ROOT / "docs").rglob("*.md"):
        page = path.relative_to(ROOT / "docs").with_suffix("").as_posix()
        where = "." if page == "index" else f"{page.removesuffix('index').rstrip('/')}/"
        assert f'href="{where}" class="md-nav__link' in menu, page
