"""The independent NumPy oracle, continued: rows with one policy (EDAC to TD3+BC, and BC).

Same conventions as `tests/oracle/reference.py`, whose functions are used here: float64, one transition at a
time, every random draw an argument, no code shared with the package. The arithmetic takes values,
advantages and log densities; the passes through networks are separate, at the top.

Letters: B transitions, N critics, K candidate actions, T steps of an episode, D and A the sizes of
observation and action. d is true termination (1.0 or 0.0), never a time limit. If the
sources differ, an argument chooses the form, and the docstring names the source of each.
"""

import numpy as np

from tests.oracle import reference


def mean_of(values):
    """(1/B) sum_b x_b."""
    return sum(values) / len(values)


def clip(x, low, high):
    """max(low, min(high, x)) of one number."""
    return max(low, min(high, x))


# Networks.


def mlp(tree, inputs, head="out"):
    """One linear head on a relu trunk: [B, width of the head]."""
    layers = tree["params"]
    return reference.dense(layers[head], reference.trunk(layers, inputs))


def value_net(tree, observation):
    """V(s) [B]."""
    return mlp(tree, observation)[:, 0]


def tanh_actor(tree, observation, scale=1.0, head="out"):
    """A deterministic policy, scale * tanh(linear head): [B, A]. LAPO's latent policy has scale 2."""
    return scale * np.tanh(mlp(tree, observation, head))


def gaussian_actor(tree, observation, low, high, tanh_mean):
    """Mean [B, A] and clamped log std [B, A] of a Gaussian that is not squashed.

    The mean is tanh(linear) for IQL and PEX, linear for AWAC; `log_std` is a separate parameter [A],
    the same in every state, clamped to [low, high].
    """
    mean = mlp(tree, observation, "mean")
    mean = np.tanh(mean) if tanh_mean else mean
    log_std = np.clip(np.asarray(tree["params"]["log_std"]), low, high)
    return mean, np.broadcast_to(log_std, mean.shape)


def gaussian_log_prob(mean, log_std, action):
    """log N(a; m, s), summed over the last axis: no tanh, no Jacobian."""
    return np.sum(reference.normal_log_density(action, mean, log_std), axis=-1)


def numerical_gradient(function, tree, step=1e-6):
    """Central differences of a scalar function by every number of a tree of arrays, as a tree."""
    if isinstance(tree, dict):
        gradient = {}
        for name, subtree in tree.items():

            def inner(value, name=name):
                return function({**tree, name: value})

            gradient[name] = numerical_gradient(inner, subtree, step)
        return gradient
    gradient = np.zeros_like(tree, dtype=float)
    for index in np.ndindex(gradient.shape):
        above, below = np.array(tree, float), np.array(tree, float)
        above[index] += step
        below[index] -= step
        gradient[index] = (function(above) - function(below)) / (2.0 * step)
    return gradient


# EDAC (An et al. 2021): an ensemble with diverse gradients by the action.


def action_gradients(tree, observation, action):
    """grad_a Q_i(s, a) of an ensemble of relu critics, [N, B, A], by hand.

    With z_l = W_l' h_l + b_l and h_{l+1} = relu(z_l), the gradient by h_L is the head's column w, and
    by h_l it is W_l (1[z_l > 0] * gradient by h_{l+1}); a is the last A entries of h_0 = (s, a).
    """
    count = len(tree["params"]["out"]["bias"])
    batch, size = action.shape
    gradients = np.zeros((count, batch, size))
    for i in range(count):
        layers = reference.member(tree, i)["params"]
        depth = sum(name.startswith("layer_") for name in layers)
        for b in range(batch):
            hidden = np.concatenate([observation[b], action[b]])
            open_units = []
            for k in range(depth):
                before = reference.dense(layers[f"layer_{k}"], hidden)
                open_units.append(before > 0.0)
                hidden = np.where(before > 0.0, before, 0.0)
            backward = np.array(layers["out"]["kernel"])[:, 0]
            for k in reversed(range(depth)):
                backward = np.array(layers[f"layer_{k}"]["kernel"]) @ (open_units[k] * backward)
            gradients[i, b] = backward[-size:]
    return gradients


def edac_similarity(gradients, eps=1e-10):
    """ES = mean_B sum_{i != j} Gh_i . Gh_j / (N - 1), Gh_i = G_i / (|G_i| + eps), G [N, B, A].

    The sum runs over ordered pairs: N (N - 1) terms, so that equal directions give ES = N.
    """
    count, batch, _ = gradients.shape
    per_transition = []
    for b in range(batch):
        unit = [g / (np.sqrt(sum(g**2)) + eps) for g in gradients[:, b]]
        pairs = [unit[i] @ unit[j] for i in range(count) for j in range(count) if i != j]
        per_transition.append(sum(pairs) / (count - 1))
    return mean_of(per_transition)


def edac_critic_loss(tree, observation, action, y, eta, weight=None):
    """sum_i mean_B w (Q_i(s, a) - y)^2 + eta ES, the gradients taken at the data's actions."""
    q = reference.critics(tree, observation, action)
    similarity = edac_similarity(action_gradients(tree, observation, action))
    return reference.critic_loss(q, y, weight) + eta * similarity


# Cal-QL (Nakamoto et al. 2023).


def returns_to_go(reward, terminated, discount, sparse=None, negative=None):
    """Monte-Carlo returns G_t = r_t + g (1 - d_t) G_{t+1} of one episode, [T]; 0 after the last step.

    Nothing is bootstrapped at a time limit. The special case of sparse rewards gives every step
    negative / (1 - g): with `sparse` "all" if every reward equals `negative` (Cal-QL's code), with
    "last" if the last one does (CORL's); None is the plain return.
    """
    steps = len(reward)
    failed = {
        None: False,
        "all": all(r == negative for r in reward),
        "last": reward[-1] == negative,
    }[sparse]
    if failed:
        return np.full(steps, negative / (1.0 - discount))
    returns = np.zeros(steps)
    following = 0.0
    for t in reversed(range(steps)):
        following = reward[t] + discount * (1.0 - terminated[t]) * following
        returns[t] = following
    return returns


def calibrated(q, return_to_go):
    """max(Q_i(s, a_k), G(s)), and whether Q wins (so that gradient flows): [N, K, B]; G is [B].

    On an exact tie the maximum is the same, and Q is counted as the loser.
    """
    values, wins = np.array(q, float), np.zeros(q.shape, bool)
    for index in np.ndindex(q.shape):
        wins[index] = q[index] > return_to_go[index[-1]]
        if not wins[index]:
            values[index] = return_to_go[index[-1]]
    return values, wins


def calql_penalty(
    q_data,
    q_random,
    q_current,
    q_next,
    log_prob_current,
    log_prob_next,
    action_size,
    return_to_go,
    calibrate_random=False,
    **options,
):
    """`reference.cql_penalty` on calibrated values of the policy's actions: scalar and gaps [N].

    Values at actions of pi(s) and pi(s2) are calibrated before subtracting log densities. The data
    set's never are, and uniform ones only with `calibrate_random` (WSRL's option, also off there).
    Options go to `cql_penalty`.
    """
    if calibrate_random:
        q_random = calibrated(q_random, return_to_go)[0]
    q_current = calibrated(q_current, return_to_go)[0]
    q_next = calibrated(q_next, return_to_go)[0]
    return reference.cql_penalty(
        q_data, q_random, q_current, q_next, log_prob_current, log_prob_next, action_size, **options
    )


# Implicit Q-learning (Kostrikov et al. 2022).


def expectile_loss(difference, expectile):
    """|tau - 1(u < 0)| u^2 of one number u."""
    return abs(expectile - (1.0 if difference < 0.0 else 0.0)) * difference**2


def iql_value_loss(q_target, v, expectile):
    """mean_B |tau - 1(u < 0)| u^2, u = Qt(s, a) - V(s); `q_target` [B] is the min over targets."""
    return mean_of([expectile_loss(q_target[b] - v[b], expectile) for b in range(len(v))])


def bootstrapped(reward, terminated, discount, next_value):
    """y = r + g (1 - d) V(s2), [B]."""
    return np.array(
        [
            reward[b] + discount * (1.0 - terminated[b]) * next_value[b]
            for b in range(len(next_value))
        ]
    )


def iql_critic_loss(q, reward, terminated, next_v, discount, weight=None, reduction="sum"):
    """mean_B w (Q_i - y)^2 over critics, y = r + g (1 - d) V(s2) with the online V.

    `reduction` over critics: "sum" (IQL-code) or "mean" (CORL and PEX).
    """
    loss = reference.critic_loss(q, bootstrapped(reward, terminated, discount, next_v), weight)
    return {"sum": loss, "mean": loss / len(q)}[reduction]


def exponential_weight(advantage, beta, cap=100.0):
    """min(exp(beta A), cap), [B]; AWAC's lambda is 1 / beta."""
    return np.array([min(np.exp(min(beta * a, 700.0)), cap) for a in advantage])


def iql_actor_loss(advantage, log_prob, beta, cap=100.0):
    """-mean_B min(exp(beta A), cap) log pi(a|s), A = Qt_min(s, a) - V(s), no gradient through A."""
    weight = exponential_weight(advantage, beta, cap)
    return -mean_of([weight[b] * log_prob[b] for b in range(len(log_prob))])


def iql_deterministic_actor_loss(advantage, policy_action, action, beta, cap=100.0):
    """mean_B min(exp(beta A), cap) sum_A (pi(s) - a)^2, CORL's option for a deterministic policy."""
    weight = exponential_weight(advantage, beta, cap)
    return mean_of(
        [weight[b] * sum((policy_action[b] - action[b]) ** 2) for b in range(len(weight))]
    )


# AWAC (Nair et al. 2020).


def clamped_gaussian_sample(mean, log_std, noise):
    """clip(m + s noise, -1, 1): the action that AWAC's critics read (CORL)."""
    return np.clip(mean + np.exp(log_std) * noise, -1.0, 1.0)


def awac_advantage(q_data, q_policy):
    """min_i Q_i(s, a) - min_i Q_i(s, a~), [B], with the online critics and one a~ ~ pi(.|s)."""
    return reference.min_q(q_data) - reference.min_q(q_policy)


def awac_actor_loss(advantage, log_prob, temperature, cap=100.0, form="clamp"):
    """The weighted regression, lambda the temperature, no gradient through the weights.

    "clamp" (CORL): -mean_B min(exp(A / lambda), cap) log pi(a|s). "softmax" (d3rlpy):
    -sum_B w log pi(a|s), w = B softmax_B(A / lambda), a sum over the batch, not a mean.
    """
    if form == "clamp":
        return iql_actor_loss(advantage, log_prob, 1.0 / temperature, cap)
    batch = len(advantage)
    scores = [a / temperature for a in advantage]
    total = reference.log_sum_exp(scores)
    weight = [batch * np.exp(score - total) for score in scores]
    return -sum(weight[b] * log_prob[b] for b in range(batch))


def awac_critic_loss(q, reward, terminated, next_q, discount, weight=None):
    """sum_i mean_B w (Q_i - y)^2, y = r + g (1 - d) min_i Qt_i(s2, a2), a2 ~ pi(.|s2), no entropy."""
    y = bootstrapped(reward, terminated, discount, reference.min_q(next_q))
    return reference.critic_loss(q, y, weight)


# REDQ (Chen et al. 2021) and RLPD (Ball et al. 2023).


def redq_target(
    reward, terminated, discount, next_q, members, alpha, next_log_prob, entropy_backup=True
):
    """y = r + g (1 - d) (min over the drawn subset of Qt_i - alpha log pi(a2|s2)), [B].

    `members` holds the subset's indices. Without `entropy_backup` (RLPD's AntMaze) there is no entropy.
    """
    value = reference.random_min(next_q, members)
    alpha = alpha if entropy_backup else 0.0
    return reference.sac_target(reward, terminated, discount, value, alpha, next_log_prob)


def redq_critic_loss(q, y, weight=None, reduction="sum"):
    """mean_B w (Q_i - y)^2, over critics the "sum" (REDQ) or the "mean" (RLPD)."""
    loss = reference.critic_loss(q, y, weight)
    return {"sum": loss, "mean": loss / len(q)}[reduction]


def redq_actor_loss(alpha, log_prob, q):
    """mean_B [ alpha log pi(a~|s) - (1/N) sum_i Q_i(s, a~) ]: the mean, not the min."""
    return reference.actor_loss(alpha, log_prob, q, "mean")


# TD3+BC (Fujimoto & Gu 2021) and BC.


def smoothed_action(target_action, noise, std=0.2, limit=0.5):
    """clip(pi_t(s2) + clip(std noise, -limit, limit), -1, 1), noise ~ N(0, 1): [B, A]."""
    smoothed = np.zeros_like(target_action)
    for index in np.ndindex(smoothed.shape):
        smoothing = clip(std * noise[index], -limit, limit)
        smoothed[index] = clip(target_action[index] + smoothing, -1.0, 1.0)
    return smoothed


def td3_critic_loss(q, reward, terminated, next_q, discount, weight=None):
    """sum_i mean_B w (Q_i - y)^2, y = r + g (1 - d) min_i Qt_i(s2, smoothed action)."""
    return awac_critic_loss(q, reward, terminated, next_q, discount, weight)


def bc_loss(policy_action, action):
    """mean over transitions and over action entries of (pi(s) - a)^2."""
    batch, size = action.shape
    return sum(sum((policy_action[b] - action[b]) ** 2) for b in range(batch)) / (batch * size)


def td3_bc_actor_loss(q_first, policy_action, action, alpha=2.5, scale=None):
    """-lambda mean_B Q_1(s, pi(s)) + bc_loss, lambda = alpha / mean_B |Q_1| without gradient.

    `scale` fixes mean_B |Q_1|, which numerical differentiation needs because lambda is constant.
    """
    scale = mean_of([abs(value) for value in q_first]) if scale is None else scale
    return -alpha / scale * mean_of(list(q_first)) + bc_loss(policy_action, action)
