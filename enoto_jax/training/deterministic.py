"""Bit-for-bit identical results in every run on the same device: what each platform needs.

A CPU needs nothing: the same command always gives the same bits. On a GPU, XLA may add in any order
and chooses matrix kernels by timing them; `--xla_gpu_deterministic_ops` forbids both. On GPUs and
TPUs, products are computed in full float32 (`highest`), not in TF32 or in passes of bfloat16.
"""

from __future__ import annotations

import os

import jax

_FLAG = "--xla_gpu_deterministic_ops=true"


def switch_on() -> None:
    """Make this process deterministic.

    Call it before anything is computed, because XLA reads its flags then.
    """
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAG}".strip()
    if jax.default_backend() != "cpu":
        jax.config.update("jax_default_matmul_precision", "highest")


def is_on() -> bool:
    """Return whether this process computes the same bits every time."""
    if jax.default_backend() == "cpu":
        return True
    flagged = _FLAG in os.environ.get("XLA_FLAGS", "")
    return flagged and jax.config.values["jax_default_matmul_precision"] == "highest"


def words() -> str:
    """Describe in words whether this process is deterministic."""
    if jax.default_backend() == "cpu":
        return "deterministic, as always on a CPU"
    return "deterministic" if is_on() else "not deterministic (--deterministic)"
