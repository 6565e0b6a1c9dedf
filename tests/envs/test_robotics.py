"""gymnasium-robotics' tasks: what the agent observes, and what is refused in one line."""

import sys

import gymnasium
import numpy as np
import pytest

from enoto_jax.envs.gym import make_env, spec_of
from enoto_jax.types import InputError, Spec


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium_robotics", None)
    with pytest.raises(InputError, match=r"AntMaze_Nowhere-v9 .* pip install 'enoto_jax\[robotics"):
        make_env("AntMaze_Nowhere-v9")


def test_an_ant_sees_its_position_first_and_no_goal():
    pytest.importorskip("gymnasium_robotics")
    env = make_env("AntMaze_UMaze-v4")
    assert spec_of(env) == Spec(29, 8)
    observation, _ = env.reset(seed=0)
    for _ in range(3):
        data = env.unwrapped.data
        np.testing.assert_array_equal(observation, np.concatenate([data.qpos, data.qvel]))
        observation, *_ = env.step(np.ones(8, np.float32))
    env.close()


class Nested(gymnasium.Env):
    """An ant's dictionary of observations."""

    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    observation_space = gymnasium.spaces.Dict(
        {
            key: gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
            for key in ("observation", "achieved_goal", "desired_goal")
        }
    )


def test_naming_the_module_too_changes_nothing_of_what_an_ant_sees():
    if "AntMaze_Nested-v0" not in gymnasium.registry:
        gymnasium.register("AntMaze_Nested-v0", Nested)
    for name in ("AntMaze_Nested-v0", "gymnasium:AntMaze_Nested-v0"):
        assert spec_of(make_env(name)) == Spec(4, 1)


@pytest.mark.parametrize(
    "name, sizes",
    [("Pen", (45, 24)), ("Door", (39, 28)), ("Hammer", (46, 26)), ("Relocate", (39, 30))],
)
def test_adroit_has_d4rls_sizes(name, sizes):
    pytest.importorskip("gymnasium_robotics")
    env = make_env(f"AdroitHand{name}-v1")
    assert spec_of(env) == Spec(*sizes)
    env.close()


def test_the_kitchen_works_or_says_why_not():
    """The joint utilities of gymnasium-robotics 1.4.2 fail with MuJoCo 4."""
    pytest.importorskip("gymnasium_robotics")
    try:
        env = make_env("FrankaKitchen-v1")
    except InputError as error:
        assert "FrankaKitchen-v1': AssertionError inside it, with MuJoCo 4" in str(error)
        with pytest.raises(AssertionError):
            gymnasium.make("FrankaKitchen-v1")
    else:
        assert spec_of(env).action_size == 9
        env.close()
