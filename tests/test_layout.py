"""The layout's rules: imports go down, never up or in a cycle; no package is too large."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# From the bottom up. A subpackage imports only from the floors below its own, never from others on
# the same floor.
FLOORS = (
    {"types", "atomic"},
    {"targets", "exploration", "transforms", "nets", "replay"},
    {"core"},
    {"handover", "envs"},
    {"algorithms", "data"},
    {"recipes"},
    {"runs"},
    {"report"},
    {"training"},
    {"deploy"},
    {"cli"},
)
FLOOR = {room: i for i, rooms in enumerate(FLOORS) for room in rooms}
# Unstacked ensembles are an optimisation for one backend.
UNSTACKING = {"enoto_jax.nets.cpu_kernels", "enoto_jax.training.unstack"}
KNOW_UNSTACKING = {
    "enoto_jax.nets.ensembles",
    "enoto_jax.nets.networks",
    "enoto_jax.training.unstack",
    "enoto_jax.training.offline",
    "enoto_jax.training.online",
}
FILES = {"csv", "h5py", "io", "json", "os", "pathlib", "shutil", "tempfile"}


def modules() -> dict[str, ast.Module]:
    """Return module name -> syntax tree."""
    paths = sorted((ROOT / "enoto_jax").rglob("*.py"))
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
            path.read_text()
        )
        for path in paths
    }


MODULES = modules()


def imported(tree: ast.AST, known: set[str]) -> set[str]:
    """Return the modules that a syntax tree imports, including imports inside functions."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & known) or {str(node.module)}
            if inner - known:
                found.add(str(node.module))
    return found


def room(module: str) -> str:
    return module.split(".")[1]


def upward(edges: dict[str, set[str]]) -> list[str]:
    """Return the imports that do not go down, as text."""
    return [
        f"{module} imports {other}"
        for module, others in edges.items()
        for other in sorted(others)
        if room(module) != room(other) and FLOOR[room(other)] >= FLOOR[room(module)]
    ]


def own_edges() -> dict[str, set[str]]:
    """Return module -> the package's modules that it imports, without the package itself."""
    known = set(MODULES)
    return {
        module: {m for m in imported(tree, known) if m.startswith("enoto_jax.")}
        for module, tree in MODULES.items()
        if module != "enoto_jax"
    }


def test_upward_imports_are_seen():
    edges = {"enoto_jax.algorithms.sac": {"enoto_jax.runs.files", "enoto_jax.nets.networks"}}
    assert upward(edges) == ["enoto_jax.algorithms.sac imports enoto_jax.runs.files"]
    source = "def late():\n    from enoto_jax.runs import files, lock\nimport enoto_jax.core"
    found = imported(ast.parse(source), {"enoto_jax.runs.files", "enoto_jax.core"})
    assert found == {"enoto_jax.runs.files", "enoto_jax.runs", "enoto_jax.core"}


def test_imports_go_down():
    assert {room(module) for module in own_edges()} == set(FLOOR)
    assert upward(own_edges()) == []


def test_no_import_goes_round():
    try:
        TopologicalSorter(own_edges()).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_unstacking_is_known_where_it_is_done():
    found = {m for m, others in own_edges().items() if others & UNSTACKING}
    assert found == KNOW_UNSTACKING


def test_algorithms_know_no_file():
    for module, tree in MODULES.items():
        if module != "enoto_jax" and room(module) in (
            "algorithms",
            "targets",
            "exploration",
            "nets",
            "replay",
        ):
            assert not imported(tree, set()) & FILES, module


def test_no_room_holds_more_than_a_fifth():
    lines: dict[str, int] = {}
    for path in (ROOT / "enoto_jax").rglob("*.py"):
        where = path.relative_to(ROOT / "enoto_jax").parts[0]
        lines[where] = lines.get(where, 0) + len(path.read_text().splitlines())
    largest = max(lines, key=lines.get)
    assert lines[largest] <= sum(lines.values()) / 5, (largest, lines)
