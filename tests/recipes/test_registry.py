"""Units by name: values from text, config.json, and documentation for every option."""

import json

import pytest

from enoto_jax.algorithms.bellman import best_of, sampled
from enoto_jax.algorithms.cql import cql
from enoto_jax.algorithms.sac import sac
from enoto_jax.exploration import oac, sunrise
from enoto_jax.handover import fresh
from enoto_jax.recipes import registry, units
from enoto_jax.recipes.recipe import Phase, Recipe
from enoto_jax.recipes.table import RECIPES, recipe
from enoto_jax.replay import append, mixed
from enoto_jax.targets import mean_q, min_q
from enoto_jax.types import InputError, Unit

ENOTO = RECIPES["enoto_cql"]


def value_at(recipe, path):
    return {p: v for p, v, _ in units.leaves(recipe)}[path]


def differences(old, new):
    """The differences of two recipes, in each phase and in the hand-over."""
    phases = {name: (getattr(old, name), getattr(new, name)) for name in ("offline", "online")}
    lines = [f"{n}.{line}" for n, pair in phases.items() for line in registry.changes(*pair)]
    return lines + registry.changes(old.handover, new.handover)


def refusal(function, *arguments):
    with pytest.raises(InputError) as caught:
        function(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


# Documentation is complete.


def test_names_of_units_are_unique_and_each_says_what_it_is():
    for name, make in registry.UNITS.items():
        assert name == make.__name__ and registry.named(registry.kind_of(make))[name] is make
        assert len(units.summary(make)) >= 8, name


def test_every_hyper_parameter_of_every_unit_has_a_line():
    without = [
        f"{owner.__name__}.{name}"
        for owner in [*registry.UNITS.values(), Phase, Recipe]
        for name, option in units.options(owner).items()
        if len(option.about) < 4
    ]
    assert without == []


@pytest.mark.parametrize("row", RECIPES)
def test_every_path_of_a_row_is_explained(row):
    for path, value, owner in units.leaves(RECIPES[row]):
        first, meaning, *rest = registry.describe_path(RECIPES[row], path).split("\n")
        assert first == f"{path} = {value}"
        assert len(meaning.strip()) > 3, path
        make = type(owner)
        assert rest[-1] == f"  (of {make.__name__}: {units.summary(make)})"


def test_explaining_a_unit_says_where_it_comes_from():
    text = registry.describe_path(ENOTO, "online.algorithm.target")
    assert "weighted_min_pair: The mean over all pairs of critics" in text
    assert "rule that reduces the target critics." in text
    message = refusal(registry.describe_path, ENOTO, "online.algorithm.targte")
    assert message.startswith("--explain: no hyper-parameter 'online.algorithm.targte'; nearest: ")
    assert "online.algorithm.target" in message


@pytest.mark.parametrize("row", RECIPES)
def test_every_unit_of_a_row_can_be_named_on_the_command_line(row):
    for path, value, owner in units.leaves(RECIPES[row]):
        if isinstance(value, Unit):
            option = units.options(type(owner))[path.rpartition(".")[2]]
            assert registry.parse(path, option, value, value.name) == type(value)()


# Overrides.


def test_override_in_one_phase():
    changed = registry.override(ENOTO, "online.algorithm.n", "5")
    assert value_at(changed, "online.algorithm.n") == 5
    assert value_at(changed, "offline.algorithm.n") == 10
    assert value_at(ENOTO, "online.algorithm.n") == 10
    assert differences(ENOTO, changed) == ["online.algorithm.n: 10 -> 5"]


def test_override_without_a_phase_means_every_phase_that_has_it():
    changed = registry.override(ENOTO, "algorithm.n", "5")
    assert differences(ENOTO, changed) == [
        "offline.algorithm.n: 10 -> 5",
        "online.algorithm.n: 10 -> 5",
    ]
    changed = registry.override(ENOTO, "algorithm.weight", "2.5")  # only cql has it
    assert differences(ENOTO, changed) == ["offline.algorithm.weight: 5.0 -> 2.5"]
    changed = registry.override(RECIPES["sac"], "steps", "10")  # no offline phase
    assert differences(RECIPES["sac"], changed) == ["online.steps: 250000 -> 10"]


def test_override_of_a_unit_and_then_of_its_argument():
    changed = registry.override(ENOTO, "online.replay", "mixed")
    assert changed.online.replay == mixed()
    changed = registry.override(changed, "online.replay.fraction", "0.25")
    assert changed.online.replay == mixed(fraction=0.25)
    changed = registry.override(changed, "handover", "fresh")
    assert changed.handover == fresh()


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("online.algorithm.exploration.ucbb", "online.algorithm.exploration.ucb"),
        ("online.algoritm.n", "online.algorithm.n"),
        ("algorithm.nn", "algorithm.n"),
        ("algorithm.weigth", "algorithm.weight"),
        ("online.handover", "handover"),
    ],
)
def test_a_wrong_path_gets_the_nearest(path, near):
    message = refusal(registry.override, ENOTO, path, "1")
    start, _, nearest = message.partition("; nearest: ")
    assert start == f"no hyper-parameter {path!r}"
    assert near in nearest.split(", ")


def test_a_phase_that_a_row_lacks_has_no_paths():
    assert "no hyper-parameter 'offline.steps'" in refusal(
        registry.override, RECIPES["sac"], "offline.steps", "1"
    )


# Values from text.


def option_at(path):
    """The option at this path of a unit, phase or recipe."""
    name = path.rpartition(".")[2]
    for make in (Recipe, Phase, cql, sunrise):
        if name in (known := units.options(make)):
            return known[name]
    raise KeyError(path)


@pytest.mark.parametrize(
    ("path", "old", "text", "value"),
    [
        ("online.steps", 10, "25", 25),
        ("online.algorithm.actor_rate", 3e-4, "1e-5", 1e-5),
        ("online.algorithm.tau", 0.005, "1", 1.0),
        ("online.algorithm.layer_norm", False, "true", True),
        ("online.algorithm.layer_norm", True, "False", False),
        ("online.algorithm.hidden", (8, 8), "(64, 64)", (64, 64)),
        ("online.algorithm.hidden", (8, 8), "64,32", (64, 32)),
        ("online.algorithm.hidden", (8, 8), "[64, 32]", (64, 32)),
        ("online.algorithm.hidden", (8, 8), "64", (64,)),
        ("online.algorithm.order", "temperature,critic,actor", "x,y", "x,y"),
        ("online.algorithm.exploration.scope", "transition", "batch", "batch"),
        ("online.algorithm.exploration.ucb", 10.0, "none", None),
        ("online.algorithm.exploration.ucb", 10.0, "None", None),
        ("offline.algorithm.lagrange", None, "0.8", 0.8),
        ("offline.algorithm.clip", None, "(-200, 1e6)", (-200, 1e6)),
        ("offline.algorithm.lagrange", None, "None", None),
        ("online.algorithm.exploration", oac(), "oac", oac()),
        ("online.algorithm.target", min_q(), "mean_q", mean_q()),
        ("online.algorithm.actor_value", min_q(), "mean_q", mean_q()),
        ("offline.algorithm.backup", sampled(), "best_of", best_of()),
        ("online.replay", mixed(), "append", append()),
        ("handover", fresh(), "fresh", fresh()),
        ("offline.algorithm", sac(), "cql", cql()),
    ],
)
def test_parse(path, old, text, value):
    parsed = registry.parse(path, option_at(path), old, text)
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    ("path", "old", "text", "message"),
    [
        ("steps", 10, "2.5", "steps: '2.5' should be a whole number, like 10"),
        (
            "steps",
            10,
            "2147483648",
            "steps: '2147483648' is too large; whole numbers must be below 2^31",
        ),
        ("steps", 10, "many", "steps: 'many' should be a whole number, like 10"),
        ("steps", 10, "True", "steps: 'True' should be a whole number, like 10"),
        ("tau", 0.1, "true", "tau: 'true' should be a number, like 0.1"),
        ("tau", 0.1, "(1,)", "tau: '(1,)' should be a number, like 0.1"),
        ("layer_norm", False, "1", "layer_norm: '1' should be true or false, like False"),
        ("hidden", (8,), "wide", "hidden: 'wide' should be a tuple, like (8,)"),
        ("lagrange", None, "much", "lagrange: 'much' should be a number or None, like None"),
        ("a.target", min_q(), "min", "a.target: unknown target 'min'; nearest: min_q, mix"),
        (
            "handover",
            fresh(),
            "zz",
            "handover: unknown handover 'zz'; known: carry, distil, expand_policy, fresh, merge_actors",
        ),
        ("algorithm", sac(), "oac", "algorithm: unknown algorithm 'oac'; nearest: sac, edac, awac"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(path, old, text, message):
    assert refusal(registry.parse, path, option_at(path), old, text) == message


# config.json.


def again(recipe):
    return registry.from_json(json.loads(json.dumps(units.to_json(recipe))))


@pytest.mark.parametrize("row", RECIPES)
def test_a_row_survives_config_json(row):
    recipe = RECIPES[row]
    assert differences(recipe, again(recipe)) == []
    assert units.to_json(again(recipe)) == units.to_json(recipe)
    assert again(recipe) == again(again(recipe))
    assert isinstance(again(recipe), Recipe)


@pytest.mark.parametrize("row", RECIPES)
def test_a_row_read_from_config_json_can_be_built(row, spec):
    written, read = RECIPES[row], again(RECIPES[row])
    for phase in ("offline", "online"):
        if getattr(written, phase) is not None:
            built, expected = (getattr(r, phase).algorithm.build(spec) for r in (read, written))
            assert list(built.losses) == list(expected.losses)
            assert (built.critics, built.tau) == (expected.critics, expected.tau)
    one, two = (recipe.online.replay.capacity for recipe in (read, written))
    assert one == two


def test_changed_values_survive_config_json():
    changed = registry.override(ENOTO, "algorithm.hidden", "64,32")
    changed = registry.override(changed, "offline.algorithm.clip", "(-200, 1e6)")
    changed = registry.override(changed, "online.replay", "append")
    assert differences(changed, again(changed)) == []
    assert value_at(again(changed), "online.algorithm.hidden") == (64, 32)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("handover", "unit"), "cary", "--config: unknown unit 'cary'; nearest: carry"),
        (("handover", "speed"), 1, "--config: carry has no argument 'speed'; known: "),
        (("online", "stepps"), 1, "--config: Phase has no argument 'stepps'; nearest: steps"),
        (("handover", "unit"), ["carry"], "--config: not a recipe of this version: "),
        (("online",), ["steps"], "--config: not a recipe of this version: "),
        (("online",), None, "--config: not a recipe of this version: "),
    ],
    ids=["unit", "argument", "field", "type", "list", "null"],
)
def test_a_strange_config_is_refused(path, value, message):
    tree = json.loads(json.dumps(units.to_json(ENOTO)))
    node = tree
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    assert refusal(registry.from_json, tree).startswith(message)


def test_a_config_without_a_part_is_refused():
    for part in ("about", "offline", "handover", "online"):
        tree = {k: v for k, v in units.to_json(ENOTO).items() if k != part}
        assert part in refusal(registry.from_json, tree)


# Changes in words.


def test_changes_in_words():
    assert registry.changes(ENOTO.online, ENOTO.online) == []
    lines = registry.changes(ENOTO.offline.algorithm, ENOTO.online.algorithm)
    assert "exploration: policy() -> sunrise()" in lines
    assert "target: min_q() -> weighted_min_pair()" in lines
    assert "weight: 5.0 -> -" in lines
    assert "exploration.ucb: - -> 10.0" in lines
    assert not any(line.startswith(("n:", "actor_rate:")) for line in lines)


@pytest.mark.parametrize(
    "path, value",
    [
        (("about",), 1),
        (("handover",), "carry"),
        (("handover",), {"unit": "sac"}),
        (("offline", "steps"), 1.5),
        (("offline", "batch_size"), True),
        (("offline", "algorithm", "hidden"), [1, "x"]),
        (("offline", "algorithm", "hidden"), 8),
        (("offline", "algorithm", "actor_rate"), None),
        (("offline", "algorithm", "log_std_range"), [1.0]),
        (("online", "algorithm", "target"), [1, 2]),
        (("online", "algorithm", "exploration"), {"unit": "min_q"}),
    ],
)
def test_configurations_of_other_types_are_refused(path, value):
    tree = json.loads(json.dumps(units.to_json(RECIPES["enoto_cql"])))
    assert json.loads(json.dumps(units.to_json(registry.from_json(tree)))) == tree
    node = tree
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    with pytest.raises(InputError, match=f"--config: {path[-1]} of .*; it should be "):
        registry.from_json(tree)


@pytest.mark.parametrize(
    "path, text", [("online.algorithm.clip", "1e-300"), ("offline.algorithm.actor_rate", "None")]
)
def test_texts_of_other_types_are_refused(path, text):
    with pytest.raises(InputError, match=f"{path}: '{text}' should be"):
        registry.override(RECIPES["cal_ql"], path, text)


def test_units_of_a_tuple_are_given_by_their_names():
    path = "offline.algorithm.terms"
    found = registry.override(recipe("sac_n"), path, "q_smoothness, q_pessimism").offline.algorithm
    assert [term.name for term in found.terms] == ["q_smoothness", "q_pessimism"]
    assert registry.override(recipe("ro2o"), path, "()").offline.algorithm.terms == ()
    with pytest.raises(InputError, match=f"{path}: unknown term 'q_smoothnes'; .*q_smoothness"):
        registry.override(recipe("sac_n"), path, "q_smoothnes")
