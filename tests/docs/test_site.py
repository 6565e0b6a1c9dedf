"""The documents as a site: it builds without a warning, and its generated pages are the code's."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from enoto_jax.recipes.registry import KINDS
from experiments import table
from tests.helpers import quick_compiling

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
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
    ideas = (site / "ideas/index.html").read_text()
    assert 'src="../results/first/online.png"' in ideas
    assert (site / "results/first/online.png").stat().st_size > 10_000
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


def test_own_algorithm(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/own_algorithm.md").read_text()
    algorithm, use = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    lines = algorithm.partition("def crr")[2].splitlines()
    assert len([line for line in lines if line.strip()]) <= 46
    for budget in ("1_000", "500", "250", "100"):
        assert f"={budget}" in use
        use = use.replace(f"={budget}", "=20" if budget != "100" else "=10")
    with quick_compiling():
        exec(algorithm + use, {})
    assert float(capsys.readouterr().out) > 0.0
    assert (tmp_path / "runs/crr/summary.json").exists()
