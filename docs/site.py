"""Build the site from the folder docs: pages of results, lists of pages, links and equations.

The documents can also be read in the repository. A link that leaves docs becomes a link to the
site's page of its target, or plain text if the site has no such page. Equations become MathML,
which browsers typeset without a script.
"""

from __future__ import annotations

import html
import posixpath
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
RESULTS = "experiments/results"
PUBLIC = ROOT / "enoto_jax/__init__.pyi"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill in the sections that list a folder, and make ```math fences equations."""
    math = {"name": "math", "class": "math", "format": _display}
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [math]
    for entry in config.nav:
        for title, pages in entry.items():
            if isinstance(pages, str) and pages.endswith("/*"):
                folder = pages.removesuffix("/*")
                source = ROOT / (RESULTS if folder == "results" else f"docs/{folder}")
                found = (path.relative_to(source).as_posix() for path in source.rglob("*.md"))
                # An index comes first: it is the page of the section itself.
                key = lambda path: (not path.endswith("index.md"), path)  # noqa: E731
                entry[title] = sorted((f"{folder}/{path}" for path in found), key=key)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the results' documents and pictures."""
    for path in sorted((ROOT / RESULTS).rglob("*")):
        if path.suffix in (".md", ".png", ".svg", ".html"):
            here = f"results/{path.relative_to(ROOT / RESULTS).as_posix()}"
            files.append(File.generated(config, here, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links of the repository into links of the site; complete the reference."""
    here = page.file.src_uri
    if here == "reference.md":
        return markdown + _other_names(markdown)
    if here.startswith("results/"):
        folder = posixpath.dirname(f"experiments/{here}")
    else:
        folder = posixpath.dirname(f"docs/{here}")

    def link(match: re.Match) -> str:
        text, target = match.groups()
        if "://" in target or target.startswith("#"):
            return match[0]
        path, hash_, anchor = target.partition("#")
        full = posixpath.normpath(posixpath.join(folder, path))
        inside = re.sub(r"^(docs/|experiments/(?=results/))", "", full)
        if inside == full or files.get_file_from_path(inside) is None:
            return text
        return (
            f"[{text}]({posixpath.relpath(inside, posixpath.dirname(here) or '.')}{hash_}{anchor})"
        )

    return re.sub(r"\[([^\]\n]+)\]\(([^)\s]+)\)", link, markdown)


def _other_names(reference: str) -> str:
    """A last section with the public names that the reference does not list itself."""
    public = re.findall(r" as (\w+)$", PUBLIC.read_text(), re.MULTILINE)
    others = [name for name in public if f"::: enoto_jax.{name}\n" not in reference]
    blocks = "".join(f"\n::: enoto_jax.{name}\n" for name in others)
    return f"\n## More\n{blocks}" if blocks else ""


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn inline equations into MathML."""

    def inline(match: re.Match) -> str:
        return _mathml(html.unescape(match[1]), "inline")

    return re.sub(
        r'<span class="arithmatex">\\\((.*?)\\\)</span>', inline, content, flags=re.DOTALL
    )


def _display(source: str, *_: Any, **__: Any) -> str:
    """A fenced block of LaTeX, for superfences."""
    return f'<div class="math">{_mathml(source, "block")}</div>'


def _mathml(latex: str, display: str) -> str:
    # latex2mathml supports `split`, not `aligned`, and sets \sim and \log too close.
    aligned = re.sub(r"\\(begin|end)\{aligned\}", r"\\\1{split}", latex.strip())
    found = convert(aligned, display=display)
    found = found.replace("<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>")
    return found.replace("<mi>log</mi>", '<mo lspace="0.17em" rspace="0.17em">log</mo>')
