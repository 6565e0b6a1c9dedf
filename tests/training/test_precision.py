"""bfloat16 products: losses close to float32's, float32 states; and deterministic devices."""

import os
from functools import partial

import jax
import pytest

from enoto_jax import core
from enoto_jax.recipes import registry
from enoto_jax.recipes.building import build
from enoto_jax.training import deterministic
from enoto_jax.types import InputError
from tests.helpers import differ, quick_compiling, tiny


@pytest.fixture(scope="module", autouse=True)
def quick():
    with quick_compiling():
        yield


@pytest.mark.parametrize("name", ["sac_n", "iql"])
def test_losses_are_close_and_everything_kept_is_float32(name, spec, batch, state_of):
    found = {}
    for precision in ("float32", "bf16"):
        row = registry.override(tiny(name, layers=2), "precision", precision)
        algorithm = build(row, spec).offline
        # The first update's metrics are from the same parameters in both precisions.
        update = jax.jit(partial(core.update, algorithm))
        found[precision] = update(state_of(algorithm), batch, jax.random.key(1))
    (state, wanted), (rounded, losses) = found["float32"], found["bf16"]
    assert jax.tree.map(lambda x: x.dtype, state) == jax.tree.map(lambda x: x.dtype, rounded)
    assert differ(wanted, losses)  # bfloat16 is actually used
    for network, quantities in wanted.items():
        one, two = float(quantities["loss"]), float(losses[network]["loss"])
        assert two == pytest.approx(one, rel=0.05, abs=0.05), network


def test_another_precision_is_refused(spec):
    with pytest.raises(InputError, match="precision is 'half'; choose float32 or bf16"):
        build(registry.override(tiny("sac_n"), "precision", "half"), spec)


@pytest.fixture
def platform(monkeypatch):
    """platform(name) pretends to be on another platform, before any computation."""
    monkeypatch.setenv("XLA_FLAGS", "--xla_foo=1")
    before = jax.config.jax_default_matmul_precision
    yield lambda name: monkeypatch.setattr(jax, "default_backend", lambda: name)
    jax.config.update("jax_default_matmul_precision", before)


def test_a_cpu_is_deterministic_anyway(platform):
    platform("cpu")
    assert deterministic.is_on() and "CPU" in deterministic.words()
    deterministic.switch_on()
    assert jax.config.jax_default_matmul_precision is None


@pytest.mark.parametrize("name", ["gpu", "tpu"])
def test_other_devices_are_when_asked(platform, name):
    platform(name)
    assert not deterministic.is_on() and "--deterministic" in deterministic.words()
    deterministic.switch_on()
    assert deterministic.is_on() and deterministic.words() == "deterministic"
    assert os.environ["XLA_FLAGS"] == "--xla_foo=1 --xla_gpu_deterministic_ops=true"
    assert jax.config.jax_default_matmul_precision == "highest"
