"""The same bits in every run on the same device: what that takes on each platform.

A CPU needs nothing: the same command gives the same bits anyway. On a GPU, XLA may add in any order
and picks products by timing them; `--xla_gpu_deterministic_ops` forbids both. There and on a TPU,
products are made in full float32 (`highest`), not in TF32 or in passes of bfloat16.
"""

from __future__ import annotations

import os

import jax

_FLAG = "--xla_gpu_deterministic_ops=true"


def switch_on() -> None:
    """For this process; to be called before anything is computed, when XLA reads its flags."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAG}".strip()
    if jax.default_backend() != "cpu":
        jax.config.update("jax_default_matmul_precision", "highest")


def is_on() -> bool:
    """Whether this process computes the same bits every time."""
    if jax.default_backend() == "cpu":
        return True
    flagged = _FLAG in os.environ.get("XLA_FLAGS", "")
    return flagged and jax.config.values["jax_default_matmul_precision"] == "highest"


def words() -> str:
    """The same for people."""
    if jax.default_backend() == "cpu":
        return "deterministic, as always on a CPU"
    return "deterministic" if is_on() else "not deterministic (--deterministic)"
