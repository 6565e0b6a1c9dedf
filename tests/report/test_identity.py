"""The names of runs: their method, and what was changed in it."""

import copy
import json
from pathlib import Path

import pytest

from enoto_jax.recipes import registry, table, units
from enoto_jax.recipes.budgets import BUDGETS, decayed_at_the_end, with_budget
from enoto_jax.recipes.table import RECIPES
from enoto_jax.report import identity


def config(method="enoto_cql", task="hopper-medium-v2", **changes):
    recipe = table.recipe(method)
    for path, value in changes.items():
        recipe = registry.override(recipe, path.replace("__", "."), value)
    recipe = json.loads(json.dumps(units.to_json(recipe)))
    return {"method": method, "task": task, "env": "Hopper-v4", "recipe": recipe}


def test_paths_of_settings():
    tree = {"a": {"unit": "sac", "n": 2}, "b": None}
    assert identity.flat(tree) == {"a": "sac", "a.n": 2, "b": None}


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({}, "enoto_cql"),
        ({"online__algorithm__target": "mean_q"}, "enoto_cql · target=mean_q"),
        ({"online__algorithm__exploration": "oac"}, "enoto_cql · exploration=oac"),
        ({"online__algorithm__exploration__ucb": "3"}, "enoto_cql · ucb=3"),
        ({"algorithm__n": "10"}, "enoto_cql"),  # the table's value
        ({"algorithm__n": "7"}, "enoto_cql · n=7"),  # a change in both phases appears once
        ({"algorithm__n": "4"}, "enoto_cql"),  # a budget's value
        ({"online__algorithm__actor_rate": "2e-3"}, "enoto_cql · actor_rate=0.002"),
        ({"online__steps": "77", "batch_size": "31", "algorithm__hidden": "9,9"}, "enoto_cql"),
    ],
)
def test_a_label_has_what_was_changed(changes, label):
    assert identity.label(config(**changes)) == label


@pytest.mark.parametrize("name", BUDGETS)
@pytest.mark.parametrize("method", ["enoto_plus", "rebrac", "enoto_fql", "iql"])
def test_the_constants_of_a_budget_are_no_changes(method, name):
    row = decayed_at_the_end(RECIPES[method], with_budget(RECIPES[method], BUDGETS[name]))
    assert identity.label({"method": method, "recipe": units.to_json(row)}) == method


def test_a_label_does_not_grow_without_end():
    paths = ("tau", "discount", "critic_rate", "actor_rate", "temperature_rate")
    many = config(online__algorithm__target="rem", **{f"algorithm__{p}": "0.5" for p in paths})
    words = identity.label(many).split(" · ")
    assert words[:2] == ["enoto_cql", "target=rem"] and words[-1] == "3 more changes"


def test_a_task_has_its_domains_constants():
    """AntMaze's reward scale is the default there, but a change on hopper."""
    scaled = {"transform__reward_scale": "4.0", "transform__reward_shift": "-2.0"}
    assert identity.label(config(task="antmaze-umaze-v2", **scaled)) == "enoto_cql"
    assert "reward_scale=4" in identity.label(config(**scaled))


def test_a_method_of_ones_own_has_its_name():
    assert identity.label(config() | {"method": "crr"}) == "crr"
    assert identity.label({"method": "crr"}) == "crr"


def names(*configs, tasks=None):
    tasks = tasks or ["hopper"] * len(configs)
    folders = [Path(f"top/folder{index}") for index in range(len(configs))]
    return identity.names(configs, tasks, folders)


def test_names_tell_different_runs_apart():
    assert names(config(), config()) == ["enoto_cql"] * 2
    assert names(config(), config(online__algorithm__target="rem")) == [
        "enoto_cql",
        "enoto_cql · target=rem",
    ]
    assert names(config(batch_size="64"), config(batch_size="32")) == [
        "enoto_cql · batch_size=64",
        "enoto_cql · batch_size=32",
    ]


def test_a_difference_between_tasks_is_none():
    scaled = {"transform__reward_scale": "4.0", "transform__reward_shift": "-2.0"}
    there = config(task="antmaze-umaze-v2", **scaled)
    assert names(config(), there, tasks=["a", "b"]) == ["enoto_cql"] * 2


def test_where_much_differs_the_folder_names_it():
    other = config(batch_size="32", offline__steps="5", online__steps="6", online__warmup="7")
    assert names(config(), other, other) == [
        "enoto_cql · folder0",
        "enoto_cql · folder1",
        "enoto_cql · folder1",
    ]


def test_folders_of_one_name_are_told_apart():
    other = config(batch_size="32", offline__steps="5", online__steps="6", online__warmup="7")
    folders = [Path("first/enoto_cql"), Path("longer/enoto_cql")]
    found = identity.names([config(), other], ["hopper"] * 2, folders)
    assert found == ["enoto_cql · first/enoto_cql", "enoto_cql · longer/enoto_cql"]


def test_what_was_not_recorded_is_a_difference():
    """The old run's value is unknown, so the run is not pooled with others."""
    old = copy.deepcopy(config())
    del old["recipe"]["transform"]  # too old to fill in
    assert len(set(names(config(), old))) == 2


def test_an_older_recipe_has_the_defaults_of_what_it_did_not_know():
    old = copy.deepcopy(config())
    del old["recipe"]["online"]["overlap"], old["recipe"]["online"]["algorithm"]["tau"]
    assert names(config(), old) == ["enoto_cql"] * 2
