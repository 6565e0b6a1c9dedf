"""Mutations of JSON trees and CSV files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from experiments.robustness.mutations.raw import BYTES, Mutation, odd, pick


def nodes(tree: Any, path: tuple = ()) -> Iterator[tuple]:
    """Yield the paths of all nodes below the root of a JSON tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from nodes(value, (*path, key))


def replaced(tree: Any, rng: np.random.Generator) -> Any:
    """Return the tree with one to three of its values replaced, removed or renamed."""
    for _ in range(rng.integers(1, 4)):
        paths = list(nodes(tree))
        if not paths:
            return odd(rng)
        *parents, last = pick(rng, paths)
        node = tree
        for key in parents:
            node = node[key]
        how = rng.integers(8)
        if how == 0:
            del node[last]
        elif how == 1 and isinstance(node, dict):
            node[str(odd(rng))] = node.pop(last)
        else:
            node[last] = odd(rng)
    return tree


def json_values(path: Path, rng: np.random.Generator) -> None:
    path.write_text(json.dumps(replaced(json.loads(path.read_text()), rng)))


def json_whole(path: Path, rng: np.random.Generator) -> None:
    """Replace the whole document."""
    texts = (
        "",
        "[]",
        "{}",
        "null",
        "1",
        '"x"',
        "[" * 100_000,
        '{"a":' * 50_000,
        "NaN",
        "{,}",
        "1" * 5000,
        "\ufeff{}",
        '{"a": 1e999}',
    )
    path.write_text(pick(rng, texts), encoding="utf-8")


JSON: dict[str, Mutation] = {**BYTES, "values": json_values, "documents": json_whole}


def csv_cells(path: Path, rng: np.random.Generator) -> None:
    lines = [line.split(",") for line in path.read_text().splitlines()]
    for _ in range(rng.integers(1, 4)):
        row = pick(rng, lines)
        how = rng.integers(6)
        if how == 0:
            row.append(str(odd(rng)))
        elif how == 1 and len(row) > 1:
            row.pop()
        elif how == 2:
            lines.append(list(row))
        else:
            row[rng.integers(len(row))] = str(odd(rng))
    text = "\n".join(",".join(row) for row in lines) + "\n"
    path.write_bytes(text.encode(errors="replace"))


CSV: dict[str, Mutation] = {**BYTES, "cells": csv_cells}
