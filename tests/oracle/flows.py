"""The independent NumPy oracle, continued: ReBRAC and FQL.

Same conventions as `tests/oracle/reference.py`: float64, one transition at a time, every random
draw an argument, no code shared with the package.
"""

import math

import numpy as np

from tests.oracle import reference
from tests.oracle.methods import clip, mean_of


def gelu(x):
    """x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))): Flax's default, an approximation."""
    return 0.5 * x * (1.0 + math.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def relu(x):
    return x if x > 0.0 else 0.0


def layer_norm(layer, row):
    """scale (x - mean) / sqrt(variance + 1e-6) + bias of one row."""
    mean = sum(row) / len(row)
    variance = sum((x - mean) ** 2 for x in row) / len(row)
    unit = [(x - mean) / math.sqrt(variance + 1e-6) for x in row]
    return layer["scale"] * np.array(unit) + layer["bias"]


def network(tree, inputs, activation):
    """Products, activations and LayerNorm if present, then a linear head: [B, width]."""
    layers, rows = tree["params"], []
    for row in inputs:
        index = 0
        while f"layer_{index}" in layers:
            row = reference.dense(layers[f"layer_{index}"], row)
            row = np.array([activation(x) for x in row])
            if f"norm_{index}" in layers:
                row = layer_norm(layers[f"norm_{index}"], row)
            index += 1
        rows.append(reference.dense(layers["out"], row))
    return np.array(rows)


def critics(tree, observation, action, activation):
    """Q_i(s, a), [N, B]."""
    count = len(tree["params"]["out"]["bias"])
    inputs = np.concatenate([observation, action], axis=-1)
    members = [reference.member(tree, i) for i in range(count)]
    return np.array([network(member, inputs, activation)[:, 0] for member in members])


# ReBRAC (Tarasov et al. 2023).


def squared_distance(one, other):
    """The sum over the action's entries, for one transition."""
    return sum((x - y) ** 2 for x, y in zip(one, other))


def rebrac_target(reward, terminated, truncated, discount, value, action, data_action, coefficient):
    """y = r + g (1 - d) [V - b_c sum_A (a2 - a2_data)^2]; no penalty at a truncation: [B]."""
    return np.array(
        [
            reward[b]
            + discount
            * (1.0 - terminated[b])
            * (
                value[b]
                - (0.0 if truncated[b] else coefficient)
                * squared_distance(action[b], data_action[b])
            )
            for b in range(len(reward))
        ]
    )


def rebrac_actor_loss(value, policy_action, action, coefficient, scale=None):
    """mean_B [b_a sum_A (pi(s) - a)^2 - V / mean_B |V|], the divisor a constant.

    `scale` fixes mean_B |V|, which numerical differentiation needs because the divisor is constant.
    """
    scale = mean_of([abs(v) for v in value]) if scale is None else scale
    return mean_of(
        [
            coefficient * squared_distance(policy_action[b], action[b]) - value[b] / scale
            for b in range(len(value))
        ]
    )


def fallen(weight, step, steps, floor):
    """weight max(floor, 1 - step / steps)."""
    return weight * max(floor, 1.0 - step / steps)


# FQL (Park et al. 2025).


def velocity(tree, observation, x, t, activation=gelu):
    """v(s, x, t), [B, A]; t is one number, or one per row."""
    time = np.broadcast_to(np.reshape(t, (-1, 1)), (len(x), 1))
    return network(tree, np.concatenate([observation, x, time], axis=-1), activation)


def flow(tree, observation, noise, steps, activation=gelu):
    """Euler steps from the noise at t = 0 to t = 1, then clipped: [B, A]."""
    x = np.array(noise, float)
    for i in range(steps):
        x = x + velocity(tree, observation, x, i / steps, activation) / steps
    return clipped(x)


def clipped(action):
    return np.array([[clip(x, -1.0, 1.0) for x in row] for row in action])


def one_step(tree, observation, noise, activation=gelu):
    """mu(s, z), not clipped: [B, A]."""
    return network(tree, np.concatenate([observation, noise], axis=-1), activation)


def matching_loss(tree, observation, action, noise, time, activation=gelu):
    """mean_{B, A} (v(s, (1 - t) x0 + t a, t) - (a - x0))^2, time [B]."""
    total, (batch, size) = 0.0, action.shape
    for b in range(batch):
        between = (1.0 - time[b]) * noise[b] + time[b] * action[b]
        found = velocity(tree, observation[b : b + 1], between[None], time[b], activation)[0]
        total += sum((found[a] - (action[b, a] - noise[b, a])) ** 2 for a in range(size))
    return total / (batch * size)


def fql_actor_loss(action, wanted, value, alpha, scale=1.0):
    """alpha mean_{B, A} (mu - flow)^2 - mean_B V / scale, V at the clipped action."""
    batch, size = action.shape
    distance = sum(squared_distance(action[b], wanted[b]) for b in range(batch)) / (batch * size)
    return alpha * distance - mean_of(list(value)) / scale


# Q-chunking and best-of-N (Li et al. 2025).


def chunk(reward, terminated, ends, discount, whole=False):
    """One chunk's R, whether M is 0, `valid` [h], and whether critics learn from it.

    The recording ends after the rows that `ends` marks; an episode is over at a terminal row.
    """
    total, over, cut, valid = 0.0, False, False, []
    for j in range(len(reward)):
        valid.append(0.0 if cut else 1.0)
        if not cut and not over:
            total += discount**j * reward[j]
            over = bool(terminated[j])
        cut = cut or bool(ends[j])
    learns = valid[-1] == 1.0 or (over and not whole)
    return total, over, valid, float(learns)


def best_flow(flow_tree, critic_tree, observation, noise, steps, rule, activation=gelu):
    """Per row, the flow with the largest value by the rule, [B, A], from noises [K, B, A]."""
    drawn = [flow(flow_tree, observation, one, steps, activation) for one in noise]
    values = [rule(critics(critic_tree, observation, a, activation)) for a in drawn]
    picked = []
    for b in range(len(observation)):
        k = max(range(len(drawn)), key=lambda k, b=b: (values[k][b], -k))
        picked.append(drawn[k][b])
    return np.array(picked)


def chunk_critic_loss(q, y, learns, weight=None):
    """sum_i mean_B learns w (Q_i - y)^2, the mean over all of B."""
    total = 0.0
    for i in range(len(q)):
        for b in range(len(y)):
            w = 1.0 if weight is None else weight[b]
            total += learns[b] * w * (q[i, b] - y[b]) ** 2 / len(y)
    return total


def chunk_matching_loss(tree, observation, action, noise, time, valid, activation=gelu):
    """mean_{B, h, A} valid_j (v(s, xt, t) - (x1 - x0))^2_j; action [B, h A], valid [B, h]."""
    total, (batch, size) = 0.0, action.shape
    each = size // len(valid[0])
    for b in range(batch):
        between = (1.0 - time[b]) * noise[b] + time[b] * action[b]
        found = velocity(tree, observation[b : b + 1], between[None], time[b], activation)[0]
        for j in range(size):
            total += valid[b][j // each] * (found[j] - (action[b, j] - noise[b, j])) ** 2
    return total / (batch * size)
