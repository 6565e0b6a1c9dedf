"""A tree of sums: rows are drawn in proportion to their priorities, which change in few gathers.

Level 0 holds the priorities, [nodes, FANOUT]. Entry (i, j) of level l + 1 is the sum of node i *
FANOUT + j of level l. The last level is one node. When a priority changes, its sums are added up
again, so that rounding errors do not accumulate.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from enoto_jax.types import Array, Key

# Measured for 1.25M rows and batches of 256 (docs/methods/br.md): near the fastest, with few
# levels.
FANOUT = 16
Levels = tuple[Array, ...]


def build(priorities: Array) -> Levels:
    """Build the tree over non-negative priorities [R]; its padding of zeros is never drawn."""
    levels: list[Array] = []
    while not levels or len(priorities) > 1:
        missing = -len(priorities) % FANOUT
        levels.append(jnp.pad(priorities, (0, missing)).reshape(-1, FANOUT))
        priorities = jnp.sum(levels[-1], axis=1)
    return tuple(levels)


def get(levels: Levels, rows: Array) -> Array:
    """Return the priorities [...] of rows [...]."""
    return levels[0][rows // FANOUT, rows % FANOUT]


def put(levels: Levels, rows: Array, priorities: Array) -> Levels:
    """Return the tree with new priorities [B] of rows [B]; a repeated row must repeat its own."""
    changed = []
    for level in levels:
        nodes, children = jnp.divmod(rows, FANOUT)
        changed.append(level.at[nodes, children].set(priorities))
        rows, priorities = nodes, jnp.sum(changed[-1][nodes], axis=1)
    return tuple(changed)


def draw(levels: Levels, key: Key, count: int) -> Array:
    """Draw rows [count], each with probability priority / sum; never one of priority 0.

    The first choice, at the root, is stratified: draw i lies in the i-th of `count` equal parts of
    the total. Every level draws a number of its own, because a single float32 could not distinguish
    the rows of a large tree.
    """
    nodes = jnp.zeros(count, jnp.int32)
    for depth, level in enumerate(reversed(levels)):
        number = jax.random.uniform(jax.random.fold_in(key, depth), (count,))
        if depth == 0:
            number = (jnp.arange(count) + number) / count
        children = level[nodes]  # [count, FANOUT]
        upto = jnp.cumsum(children, axis=1)
        # Rounding may raise a sum at a child of priority 0, which must not be chosen.
        total = jnp.max(jnp.where(children > 0, upto, 0.0), axis=1)
        reached = (children > 0) & (upto >= (number * total)[:, None])
        nodes = nodes * FANOUT + jnp.argmax(reached, axis=1)
    return nodes
