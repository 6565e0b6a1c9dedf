"""The position of a film's camera; tests/cli/test_render.py tests the pictures."""

from types import SimpleNamespace

import gymnasium
import mujoco
import numpy as np
import pytest

from enoto_jax.report import film


def aimed(env_id):
    """The renderer's settings and the model after aiming the camera."""
    env = gymnasium.make(env_id).unwrapped
    renderer = SimpleNamespace(camera_id=-1, default_cam_config=None)
    film._aim(renderer, env.model)
    return renderer, env.model


def test_a_models_own_camera_goes_along():
    renderer, model = aimed("HalfCheetah-v5")
    assert mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_CAMERA, renderer.camera_id) == "track"
    assert renderer.default_cam_config is None


def test_without_one_the_robot_fills_the_picture_and_has_light():
    renderer, model = aimed("InvertedDoublePendulum-v5")
    camera = renderer.default_cam_config
    assert renderer.camera_id is None
    assert mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_BODY, camera["trackbodyid"]) == "cart"
    # Cart and poles are 1.2 high; at a fovy of 45 degrees, half an image shows 0.77.
    assert camera["distance"] * np.tan(np.radians(22.5)) == pytest.approx(1.3 * 1.0, rel=0.3)
    assert model.vis.headlight.diffuse.tolist() == pytest.approx([0.7] * 3)
