"""The other files of a public repository agree with the code."""

import re
from pathlib import Path

import yaml

import enoto_jax

ROOT = Path(__file__).resolve().parents[2]


def read(name: str) -> str:
    return (ROOT / name).read_text()


def versions() -> list[str]:
    """The Python versions that the package declares."""
    return re.findall(r"Python :: (3\.\d+)", read("setup.cfg"))


def test_the_workflow_runs_both_commands_on_every_python():
    (job,) = yaml.safe_load(read(".github/workflows/test.yml"))["jobs"].values()
    assert job["strategy"]["matrix"]["python"] == versions()
    commands = [step["run"].split()[:2] for step in job["steps"] if "run" in step]
    assert commands == [["make", "test"], ["make", "demo"]]
    assert "make test" in read(".ci/run")


def test_the_readme_names_the_same_pythons():
    first, *_, last = versions()
    for version in versions():
        assert version in read("README.md")
    assert f">={first}," in read("setup.cfg") and f"<3.{int(last[2:]) + 1}" in read("setup.cfg")


def test_hooks_are_linters_of_the_environment_and_fetch_nothing():
    for repository in yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]:
        assert repository["repo"] == "local"
        for hook in repository["hooks"]:
            program, *_ = hook["entry"].removeprefix(".venv/bin/").split()
            assert hook["language"] == "system"
            assert f"-m {program} " in read("Makefile")


def test_the_citation_is_the_readmes():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["version"] == enoto_jax.__version__
    paper, entry = citation["preferred-citation"], read("README.md").partition("```bibtex")[2]
    fields = dict(re.findall(r"(\w+)\s+= \{(.*)\}", entry))
    assert fields["title"].translate({ord(c): None for c in "{}"}) == paper["title"]
    names = [f"{author['family-names']}, {author['given-names']}" for author in paper["authors"]]
    assert fields["author"].split(" and ") == names
    assert fields["year"] == str(paper["year"])
    assert paper["identifiers"][0]["value"] in fields["note"]


def test_the_changelog_has_the_version():
    versions = re.findall(r"^## \[(.*?)\]", read("CHANGELOG.md"), re.MULTILINE)
    assert versions[0] == "Unreleased" or versions[0] == enoto_jax.__version__
    assert enoto_jax.__version__ in versions
