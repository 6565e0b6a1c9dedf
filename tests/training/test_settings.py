"""The options of `train`: names, types, defaults and refusals."""

import dataclasses
from typing import get_type_hints

import numpy as np
import pytest

from enoto_jax.data.loading import from_env
from enoto_jax.training import run
from enoto_jax.training.settings import Options, Settings
from enoto_jax.types import InputError
from tests.helpers import REACH, tiny


def test_an_editor_shows_the_options_that_there_are():
    assert get_type_hints(Options) == get_type_hints(Settings)
    assert {field.name for field in dataclasses.fields(Settings)} == set(get_type_hints(Options))


def test_seeds_of_any_kind_are_numbers():
    assert Settings(seeds=np.arange(2)) == Settings(seeds=range(2)) == Settings(seeds=[0, 1])
    assert Settings(seeds=2).seeds == Settings(seeds=np.int64(2)).seeds == (0, 1)


def test_a_text_is_one_name_and_final_episodes_are_the_others_by_default():
    assert Settings(log="csv").log == ("csv",)
    assert Settings(eval_episodes=7).final_episodes == 7
    assert Settings(final_episodes=9).eval_episodes == 10


@pytest.mark.parametrize(
    "options, message",
    [
        ({"keep": 0}, "--keep: 0"),
        ({"eval_processes": 0}, "--eval_processes: 0"),
        ({"seeds": ()}, "--seeds"),
        ({"seeds": (2**31,)}, "--seed: seeds must lie between 0 and 2147483647"),
        ({"seeds": (0, -1)}, "--seed: seeds must lie between"),
        ({"seeds": (1, 2, 1)}, "--seeds: seed 1 is given twice"),
        ({"seeds": 0}, "--seeds: 0; give at least 1 seed"),
        ({"seeds": True}, "--seeds: True; give how many"),
        ({"seeds": 1.5}, "--seeds: 1.5; give how many"),
        ({"seeds": [0, "1"]}, "give how many, or a list of whole numbers"),
        ({"seeds": "12"}, "--seeds: '12'; give how many"),
        ({"seeds": None}, "--seeds: None; give how many"),
        ({"eval_episodes": 0}, "--eval_episodes: 0; give a whole number of at least 1"),
        ({"eval_episodes": None}, "--eval_episodes: None"),
        ({"final_episodes": 0}, "--final_episodes: 0"),
        ({"eval_max_steps": 0}, "--eval_max_steps: 0"),
        ({"log": ("paper",)}, "--log=paper"),
        ({"log": "paper"}, "--log=paper: unknown"),
        ({"log": 3}, "log: 3; give a name"),
        ({"env": 3}, "env: int is not an environment's id"),
        ({"restore": True}, "--restore: True; give the folder"),
        ({"about": "mine"}, "about: 'mine'; give a dictionary"),
        ({"announce": None}, "announce: None"),
        ({"watch": "me"}, "watch: 'me'; give a function"),
        ({"plugins": {1: 2}}, "plugins: {1: 2}; give a name"),
        ({"episodes": 3}, "no option 'episodes'; nearest: eval_episodes"),
    ],
)
def test_what_is_no_setting_leaves_no_folder(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        run.train(tiny("sac"), from_env("Reach-v0", REACH), tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()
