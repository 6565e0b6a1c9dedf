"""The options of `train`: their names, types and defaults, and what they refuse."""

import dataclasses
from typing import get_type_hints

import numpy as np
import pytest

from enoto_jax.data.source import from_env
from enoto_jax.training import run
from enoto_jax.training.settings import Options, Settings
from enoto_jax.types import InputError
from tests.helpers import REACH, tiny


def test_an_editor_shows_the_options_that_there_are():
    assert get_type_hints(Options) == get_type_hints(Settings)
    assert {field.name for field in dataclasses.fields(Settings)} == set(get_type_hints(Options))


def test_seeds_of_any_kind_are_numbers():
    assert Settings(seeds=np.arange(2)) == Settings(seeds=range(2)) == Settings(seeds=[0, 1])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"keep": 0}, "--keep: 0"),
        ({"eval_processes": 0}, "--eval_processes: 0"),
        ({"seeds": ()}, "--seeds"),
        ({"seeds": (2**31,)}, "--seed: seeds lie between 0 and 2147483647"),
        ({"seeds": (0, -1)}, "--seed: seeds lie between"),
        ({"log": ("paper",)}, "--log=paper"),
    ],
)
def test_what_is_no_setting_leaves_no_folder(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        run.train(tiny("sac"), from_env("Reach-v0", REACH), tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_an_option_that_there_is_not(tmp_path):
    with pytest.raises(TypeError, match="episodes"):
        run.train(tiny("sac"), from_env("Reach-v0", REACH), tmp_path / "new", episodes=3)
