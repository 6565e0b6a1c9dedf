"""A folder of an earlier version opens: `old_run.zip`, written at commit 84fc389 by

    python -m experiments.train --method=enoto_cql --preset=smoke --num_critics=2 \
        --set=algorithm.hidden=8 --offline_steps=40 --online_steps=30 --warmup=10 --eval_every=20 \
        --eval_episodes=1 --batch_size=8 --seeds=2 --out=runs/old

with orbax-checkpoint 0.12.8. Its figure and its older checkpoint have been removed.
"""

import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

from enoto_jax.runs import policies


@pytest.fixture
def old(tmp_path):
    with zipfile.ZipFile(Path(__file__).with_name("old_run.zip")) as archive:
        archive.extractall(tmp_path)
    return tmp_path


# Phase, step, and the sum of seed 0's absolute values, as read by that version.
KEPT = {
    "latest": ("online", 30, 521.74988),
    "last": ("online", 30, 521.74988),  # that version's name for it
    "best": ("online", 20, 469.90592),
    "handover": ("offline", 40, 496.28247),
}


@pytest.mark.parametrize("kind", KEPT)
def test_its_checkpoints_open_and_pass_their_checksums(old, kind):
    phase, step, total = KEPT[kind]
    found = policies.kept(old, kind)
    assert (found.phase, found.step, found.seed) == (phase, step, 0)
    magnitudes = sum(float(np.abs(x).sum()) for x in jax.tree.leaves(found.state))
    assert magnitudes == pytest.approx(total, rel=1e-6)


def test_its_policy_acts_as_it_did(old):
    action = policies.Policy(policies.kept(old, seed=1)).act(
        np.linspace(-1.0, 1.0, 9, dtype=np.float32)
    )
    np.testing.assert_allclose(action, [-0.2886417], rtol=1e-5)
