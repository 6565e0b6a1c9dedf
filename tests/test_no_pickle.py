"""No source of this project unpickles, or runs text as code that a data file could supply.

Only the tests of the documents run text: the documents' own code.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(
    path
    for part in ("enoto_jax", "examples", "experiments", "tests")
    for path in (ROOT / part).rglob("*.py")
)
MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
CALLS = {"eval", "exec", "compile", "torch.load", "pd.read_pickle", "pandas.read_pickle"}
# Tests that run the documents' own code blocks.
RUN_BY_TESTS = {
    f"tests/{name}.py": {"exec"}
    for name in (
        "deploy/test_export",
        "docs/test_docs",
        "docs/test_docs_data",
        "docs/test_docs_pages",
    )
}


def dangers(source: str) -> set[str]:
    """Return the names with which a source unpickles or runs text."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.partition(".")[0] in MODULES}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module)} & MODULES
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            found |= {name} & CALLS
            if name.rpartition(".")[2] in ("load", "read_array"):
                allowed = (k.value for k in node.keywords if k.arg == "allow_pickle")
                found |= {name for value in allowed if ast.unparse(value) != "False"}
    return found


@pytest.mark.parametrize(
    "source, found",
    [
        ("import pickle", {"pickle"}),
        ("from cloudpickle import loads", {"cloudpickle"}),
        ("import joblib.memory", {"joblib.memory"}),
        ("np.load(x, allow_pickle=True)", {"np.load"}),
        ("np.lib.format.read_array(f, allow_pickle=some)", {"np.lib.format.read_array"}),
        ("torch.load(x)", {"torch.load"}),
        ("eval(text)", {"eval"}),
        ("np.load(x, allow_pickle=False); jax.jit(f).lower(x).compile(); model.eval()", set()),
        ("ast.literal_eval(text); re.compile(text); json.load(file)", set()),
    ],
)
def test_dangers_are_seen(source, found):
    assert dangers(source) == found


def test_no_source_has_any():
    found = {str(path.relative_to(ROOT)): dangers(path.read_text()) for path in SOURCES}
    assert {path: what for path, what in found.items() if what} == RUN_BY_TESTS
