"""Shared by the Minari tests: metadata, and loading a data set by its id."""

import json

from enoto_jax.data import load_source
from tests.helpers import refused_in_a_line

ID = "tests/point/tiny-v3"
BOX = {"type": "Box", "dtype": "float32", "shape": [1], "low": [-1.0], "high": [1.0]}
ENV = {"id": "CartPole-v1", "max_episode_steps": 3, "kwargs": {}, "entry_point": "os:remove"}


def metadata_of(episodes, **changes):
    described = {
        "total_episodes": len(episodes),
        "data_format": "hdf5",
        "action_space": json.dumps(BOX),
        "env_spec": json.dumps(ENV),
        "minari_version": "0.5.4",
    }
    return {k: v for k, v in (described | changes).items() if v is not None}


def load(name=ID):
    return load_source(f"minari:{name}").load()


def refused(message, name=ID):
    with refused_in_a_line(message):
        load(name)
