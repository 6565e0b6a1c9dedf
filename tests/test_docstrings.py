"""Docstrings have one style: Google's sections, indented by two spaces, with capitalised items."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):")
ITEM = re.compile(r"( *)(?P<names>\w+(?:, \w+)*): (?P<text>.*)")
WORD = re.compile(r"(a|[a-z]{2,})(?= (?!->))")  # code and `key -> value` may be lower case
KINDS = ast.Module | ast.ClassDef | ast.FunctionDef


def faults(docstring: str) -> Iterator[str]:
    """Yield section items with a wrong indent or a lower-case first letter."""
    section = ""
    for line in docstring.splitlines():
        if found := SECTION.fullmatch(line):
            section = found[1]
            continue
        if line and not line.startswith(" "):
            section = ""
        item = ITEM.fullmatch(line)
        if not section or item is None or section in ("Returns", "Yields"):
            continue
        if len(item[1]) == 2 and WORD.match(item["text"]):
            yield f"{item['names']}: begins with a small letter"
        if len(item[1]) not in (2, 4):
            yield f"{item['names']}: is {len(item[1])} spaces deep"


def test_faults_are_seen():
    text = "Do it.\n\nArgs:\n  one: a thing.\n  two: [N], as given.\n  three: key -> value.\n"
    assert list(faults(text)) == ["one: begins with a small letter"]
    assert list(faults("Do it.\n\nRaises:\n      One: A thing.")) == ["One: is 6 spaces deep"]
    assert not list(faults("Do it.\n\nNot a section:\n  one: a thing."))


def test_docstrings_are_of_one_dialect():
    found = []
    for path in sorted(p for d in ("enoto_jax", "experiments") for p in (ROOT / d).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, KINDS) and (text := ast.get_docstring(node)):
                found += [f"{path.relative_to(ROOT)}: {fault}" for fault in faults(text)]
    assert not found
