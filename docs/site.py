"""What the site adds to the folder docs: the pages of the results, and its lists of pages.

The documents are written to be read where they lie: a link that leaves docs becomes one to the page
that shows it here, or plain text where the site has none.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
RESULTS = "experiments/results"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill in the sections that are whatever lies in a folder."""
    for entry in config.nav:
        for title, pages in entry.items():
            if isinstance(pages, str) and pages.endswith("/*"):
                folder = pages.removesuffix("/*")
                source = ROOT / (RESULTS if folder == "results" else f"docs/{folder}")
                found = (path.relative_to(source).as_posix() for path in source.rglob("*.md"))
                entry[title] = sorted(f"{folder}/{path}" for path in found)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Documents and pictures of the results."""
    for path in sorted((ROOT / RESULTS).rglob("*")):
        if path.suffix in (".md", ".png", ".svg", ".html"):
            here = f"results/{path.relative_to(ROOT / RESULTS).as_posix()}"
            files.append(File.generated(config, here, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links of the repository into links of the site."""
    here = page.file.src_uri
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
