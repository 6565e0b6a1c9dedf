"""Environments as users give them: parsed, stored as text, and created again from the text."""

import functools
import json
import os
import sys

import gymnasium
import numpy as np
import pytest

from enoto_jax.envs.choice import EnvChoice, env_choice
from enoto_jax.envs.gym import action_bounds, env_spec, make_env, time_limit
from enoto_jax.envs.pool import check
from enoto_jax.envs.rollout import rollout, uniform
from enoto_jax.envs.vector import SeedEnvs
from enoto_jax.transforms import transform
from enoto_jax.types import InputError, Spec
from tests.envs import odd
from tests.helpers import LIMIT, REACH, Reach

SAME = transform()(REACH, None)
WORDS = 'tests.envs.odd:make_telling?{"word": "is_success"}'

GIVEN = {
    "id": ("Reach-v0", "Reach-v0"),
    "id with arguments": (EnvChoice("Reach-v0", {"bound": 2.0}), 'Reach-v0?{"bound": 2.0}'),
    "text with arguments": ('Reach-v0?{"bound": 2.0}', 'Reach-v0?{"bound": 2.0}'),
    "module:id": ("tests.helpers:Reach-v0", "tests.helpers:Reach-v0"),
    "EnvSpec": (lambda: gymnasium.spec("Reach-v0"), "Reach-v0"),
    "class": (lambda: Reach, "tests.helpers:Reach"),
    "function": (lambda: odd.make_telling, "tests.envs.odd:make_telling"),
    "text of a function": (WORDS, WORDS),
    "partial": (lambda: functools.partial(odd.make_telling, word="is_success"), WORDS),
    "partial make": (
        lambda: functools.partial(gymnasium.make, "Reach-v0", bound=2.0),
        'Reach-v0?{"bound": 2.0}',
    ),
}


@pytest.mark.parametrize("how", GIVEN)
def test_what_is_given_is_kept_in_words_and_made_again_from_them(how):
    given, text = GIVEN[how]
    choice = env_choice(given() if callable(given) else given)
    assert choice.text == text and choice.rebuildable
    again = env_choice(json.loads(json.dumps(choice.text)))
    assert again.text == text
    for each in (choice, again):
        env = make_env(each)
        assert isinstance(env.unwrapped, Reach)
        assert env.action_space.high == 1.0
        env.close()
    low, high = action_bounds(again, 1)
    assert high == -low == (2.0 if "bound" in text else 1.0)


def test_an_env_spec_with_its_own_wrappers_is_kept_whole():
    made = gymnasium.make("Pendulum-v1", max_episode_steps=7, g=3.0)
    choice = env_choice(gymnasium.wrappers.TimeAwareObservation(made).spec)
    assert choice.rebuildable and choice.name == "Pendulum-v1"
    env = make_env(choice.text)
    assert time_limit(env) == 7 and env.unwrapped.g == 3.0
    assert env.observation_space.shape == (4,)


class Maker:
    """Creates environments in a method; its object has no name that could be stored."""

    def make(self):
        return Reach()


UNNAMED = {
    "lambda": lambda: lambda: Reach(),
    "partial with a place": lambda: functools.partial(Reach, 2.0),
    "arguments that JSON lacks": lambda: functools.partial(Reach, bound=np.float32(2.0)),
    "spec of a function": lambda: gymnasium.envs.registration.EnvSpec("Own-v0", lambda: Reach()),
    "method": lambda: Maker().make,
}


@pytest.mark.parametrize("how", UNNAMED)
def test_what_has_no_name_works_here_and_is_refused_where_it_must_be_made_again(how):
    choice = env_choice(UNNAMED[how]())
    assert isinstance(make_env(choice).unwrapped, Reach)
    assert choice.text.endswith(" (not rebuildable)") and not choice.rebuildable
    again = env_choice(choice.text)
    assert again.text == choice.text  # resuming compares the texts
    with pytest.raises(
        InputError, match=r"^--env: .* was given as a function .* give --env"
    ) as one:
        make_env(again)
    assert "\n" not in str(one.value) and "rebuildable" not in str(one.value)


def test_a_function_of_the_script_itself_has_no_name_elsewhere(monkeypatch):
    def make():
        return Reach()

    make.__module__, make.__qualname__ = "__main__", "make"
    monkeypatch.setattr("__main__.make", make, raising=False)
    assert env_choice(make).text == "__main__:make (not rebuildable)"


@pytest.mark.parametrize(
    "given, message",
    [
        (Reach(), "Reach is not an environment's id, class or function"),
        (3, "int is not an environment's id"),
        ("Reach-v0?{", "its arguments are not JSON"),
        ("Reach-v0?[1]", r"its arguments are \[1\]; expected a JSON object"),
        ('{"id": 3}', "not an EnvSpec in JSON"),
        ("no_such_module:Env", "No module named 'no_such_module'; is its folder on PYTHONPATH"),
        ("tests.envs.odd:Nothing", "cannot make 'tests.envs.odd:Nothing'"),
        ("tests.envs.odd:Fails", "ZeroDivisionError: no robot is connected"),
        (odd.Fails, "ZeroDivisionError: no robot is connected"),
        ('Reach-v0?{"speed": 1}', "unexpected keyword argument 'speed'"),
        (dict, "builtins:dict made a builtins.dict; expected a gymnasium.Env"),
    ],
)
def test_what_cannot_be_an_environment_is_refused_in_a_line(given, message):
    with pytest.raises(InputError, match=message) as error:
        make_env(given)
    assert "\n" not in str(error.value)


def test_every_loop_takes_them():
    assert env_spec(odd.make_telling) == REACH
    envs = SeedEnvs(lambda: odd.make_telling(), [3, 4], SAME)
    plain = SeedEnvs("Reach-v0", [3, 4], SAME)
    np.testing.assert_array_equal(envs.begin().observation, plain.begin().observation)
    one, two = (rollout(env, uniform(1), 30, 0) for env in (odd.make_telling, "Reach-v0"))
    np.testing.assert_array_equal(one.transitions.observation, two.transitions.observation)
    check("gymnasium", Reach)
    with pytest.raises(InputError, match="not for tests.helpers:Reach"):
        check("envpool", Reach)
    assert time_limit(make_env("Reach-v0")) == LIMIT and time_limit(make_env(Reach)) is None


def test_mujoco_arguments():
    assert env_spec('Ant-v5?{"include_cfrc_ext_in_observation": false}') == Spec(27, 8)
    assert env_spec("Ant-v5").observation_size == 105


def test_a_module_in_the_current_folder_is_found(tmp_path, monkeypatch):
    """A console script's path has the folder of the script, not the current one."""
    (tmp_path / "arm_here.py").write_text(
        "import gymnasium\ndef make():\n    return gymnasium.make('Pendulum-v1')\n"
    )
    monkeypatch.setattr("sys.path", [place for place in sys.path if place not in ("", os.getcwd())])
    monkeypatch.chdir(tmp_path)
    assert make_env("arm_here:make").spec.id == "Pendulum-v1"
