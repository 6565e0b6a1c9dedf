"""A second, independent implementation of the mathematics, in plain NumPy float64.

It is written one transition at a time, as in the papers, and shares no code with the package.
Nothing here draws a random number: noise, subsets and weights are arguments, so that both
implementations can be given the same draws.

Letters: B transitions, N critics, K candidate actions, D and A the sizes of observation and action.

A network's parameters are `{"params": {"layer_0": {"kernel": [in, out], "bias": [out]}, ...}}` with
the heads next to the layers: `mean` and `log_std` for an actor, `out` for a critic. An ensemble of
critics is the same tree with a leading axis N on every leaf.
"""

import itertools

import numpy as np

# Networks.


def dense(layer, inputs):
    """x W + b."""
    return inputs @ layer["kernel"] + layer["bias"]


def trunk(layers, inputs):
    """The hidden layers `layer_0`, `layer_1`, ..., each followed by a relu."""
    hidden = inputs
    index = 0
    while f"layer_{index}" in layers:
        hidden = np.maximum(dense(layers[f"layer_{index}"], hidden), 0.0)
        index += 1
    return hidden


def mlp_actor(tree, observation, low=-20.0, high=2.0):
    """Pre-tanh mean [B, A] and log standard deviation [B, A], the latter clamped to [low, high].

    Two linear heads on one relu trunk (Haarnoja et al. 2018, as in d3rlpy's squashed policy).
    """
    layers = tree["params"]
    hidden = trunk(layers, observation)
    mean = dense(layers["mean"], hidden)
    log_std = np.clip(dense(layers["log_std"], hidden), low, high)
    return mean, log_std


def member(tree, index):
    """The parameters of one critic of an ensemble: entry `index` of every leaf's leading axis."""
    if isinstance(tree, dict):
        return {name: member(subtree, index) for name, subtree in tree.items()}
    return tree[index]


def critics(tree, observation, action):
    """Q_i(s, a) for every member, [N, B]; each reads the concatenation of s [B, D] and a [B, A]."""
    inputs = np.concatenate([observation, action], axis=-1)
    count = len(tree["params"]["out"]["bias"])
    q = np.zeros((count, len(inputs)))
    for i in range(count):
        layers = member(tree, i)["params"]
        q[i] = dense(layers["out"], trunk(layers, inputs))[:, 0]
    return q


# The tanh-normal distribution.


def normal_log_density(value, mean, log_std):
    """log N(x; m, s) = -((x - m) / s)^2 / 2 - log s - log(2 pi) / 2, elementwise."""
    standard = (value - mean) / np.exp(log_std)
    return -0.5 * standard**2 - log_std - 0.5 * np.log(2.0 * np.pi)


def tanh_normal(mean, log_std, noise):
    """Action a = tanh(u), u = m + s * noise, and log pi(a|s), summed over the last axis.

    log pi(a|s) = sum_A [ log N(u; m, s) - 2 (log 2 - u - softplus(-2 u)) ], the bracket being
    log(1 - tanh(u)^2) in its stable form (Haarnoja et al. 2018, appendix C).
    """
    u = mean + np.exp(log_std) * noise
    softplus = np.logaddexp(0.0, -2.0 * u)
    log_jacobian = 2.0 * (np.log(2.0) - u - softplus)
    log_prob = np.sum(normal_log_density(u, mean, log_std) - log_jacobian, axis=-1)
    return np.tanh(u), log_prob


def tanh_normal_log_prob(mean, log_std, action):
    """log pi(a|s) of a given action with |a| < 1: u = atanh(a), and the Jacobian from a itself.

    log pi(a|s) = sum_A [ log N(atanh(a); m, s) - log(1 - a) - log(1 + a) ].
    """
    u = np.arctanh(action)
    log_jacobian = np.log1p(-action) + np.log1p(action)
    return np.sum(normal_log_density(u, mean, log_std) - log_jacobian, axis=-1)


# Target rules: q [N, B] to [B], or to [N, B] if each member has its own target.


def min_q(q):
    """min_i Q_i (clipped double Q-learning, Fujimoto et al. 2018; SAC-N, An et al. 2021)."""
    return np.array([min(column) for column in q.T])


def mean_q(q):
    """(1/N) sum_i Q_i."""
    return np.array([sum(column) / len(column) for column in q.T])


def rem(q, weights):
    """sum_i w_i Q_i / sum_i w_i (REM, Agarwal et al. 2020).

    `weights` is [N], one vector for the whole batch (ENOTO's released code), or [N, B], one for each
    transition (REDQ's released code). They need not sum to one.
    """
    count, batch = q.shape
    value = np.zeros(batch)
    for b in range(batch):
        w = weights if weights.ndim == 1 else weights[:, b]
        value[b] = sum(w[i] * q[i, b] for i in range(count)) / sum(w)
    return value


def random_min(q, members):
    """min over the drawn subset of critics, the same subset for the whole batch (REDQ, M = 2)."""
    return min_q(np.array([q[i] for i in members]))


def weighted_min_pair(q):
    """The mean over all N (N - 1) / 2 pairs i < j of min(Q_i, Q_j), pair by pair (ENOTO)."""
    count, batch = q.shape
    value = np.zeros(batch)
    for b in range(batch):
        minima = [min(q[i, b], q[j, b]) for i, j in itertools.combinations(range(count), 2)]
        value[b] = sum(minima) / len(minima)
    return value


def independent(q, group):
    """A target for each member, [N, B]: the min over its own group of `group` consecutive critics.

    group = 1 is the identity; group = 2 is an ensemble of double-Q agents (balanced replay, SUNRISE).
    """
    count = len(q)
    if count % group:
        raise ValueError(f"{count} critics do not divide into groups of {group}.")
    value = np.zeros_like(q)
    for i in range(count):
        first = i - i % group
        value[i] = min_q(q[first : first + group])
    return value


def mix(q, k):
    """k min_i Q_i + (1 - k) max_i Q_i (BCQ, Fujimoto et al. 2019; LAPO)."""
    return np.array([k * min(column) + (1.0 - k) * max(column) for column in q.T])


# SUNRISE, bootstrapped heads and optimism.


def population_std(values):
    """sqrt( sum_i (x_i - mean)^2 / N )."""
    mean = sum(values) / len(values)
    return np.sqrt(sum((x - mean) ** 2 for x in values) / len(values))


def unbiased_std(values):
    """sqrt( sum_i (x_i - mean)^2 / (N - 1) ): the square root of the unbiased variance."""
    mean = sum(values) / len(values)
    return np.sqrt(sum((x - mean) ** 2 for x in values) / (len(values) - 1))


def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return np.exp(-np.logaddexp(0.0, -x))


def sunrise_weight(next_q, temperature):
    """w(s2, a2) = sigmoid(-T std_i Qt_i(s2, a2)) + 0.5, one for each transition [B].

    Weighted Bellman backup of SUNRISE (Lee et al. 2021), with the population standard deviation.
    """
    return np.array([sigmoid(-temperature * population_std(column)) + 0.5 for column in next_q.T])


def batch_weight(next_q_draws, temperature):
    """The one scalar that ENOTO's released code gives the whole batch instead of SUNRISE's weights.

    For each of M draws k of next actions, with target values [N, B]: m_i = mean_B Qt_i(s2, a_k) and
    sd_k = population std over i of m_i. Then w = sigmoid(-T mean_k sd_k) + 0.5.
    """
    deviations = []
    for q in next_q_draws:
        member_means = [sum(row) / len(row) for row in q]
        deviations.append(population_std(member_means))
    return sigmoid(-temperature * sum(deviations) / len(deviations)) + 0.5


def first_argmax(scores):
    """The index of the largest score; of equal ones, the first."""
    best = 0
    for k, score in enumerate(scores):
        if score > scores[best]:
            best = k
    return best


def ucb_choice(q, scale):
    """arg-max over candidates of mean_i Q_i(s, a_k) + lambda std_i Q_i(s, a_k), q [N, K].

    SUNRISE's acting rule as in ENOTO's released code: online critics, unbiased standard deviation.
    """
    return first_argmax(
        [sum(column) / len(column) + scale * unbiased_std(column) for column in q.T]
    )


def bootstrapped_choice(q, head):
    """arg-max over candidates of Q_head(s, a_k), q [N, K]; the head is drawn once for an episode.

    Bootstrapped DQN (Osband et al. 2016) as in ENOTO's released code.
    """
    return first_argmax(q[head])


def oac_q_upper(q, beta):
    """Q_UB = mean_i Q_i + beta std_i Q_i at one state and action, q [N], unbiased deviation.

    OAC (Ciosek et al. 2019) with N critics, as in ENOTO's released code. OAC's own |Q_1 - Q_2| / 2 is
    the population deviation of two critics, smaller than this one by sqrt(2).
    """
    return sum(q) / len(q) + beta * unbiased_std(q)


def oac_mean(mean, std, gradient, delta):
    """The optimistic pre-tanh mean of OAC, for one state [A] or for any leading axes.

    mu_E = mu_T + sqrt(2 delta) Sigma g / ( sqrt(sum_A g^2 std^2) + 1e-5 ), Sigma = diag(std^2), g the
    gradient of Q_UB(tanh(mu)) with respect to mu at mu_T. The 1e-5 is the released code's `10e-6`.
    """
    shifted = np.zeros_like(mean)
    for index in np.ndindex(mean.shape[:-1]):
        g, s = gradient[index], std[index]
        norm = np.sqrt(sum(g[j] ** 2 * s[j] ** 2 for j in range(len(g))))
        shifted[index] = mean[index] + np.sqrt(2.0 * delta) * s**2 * g / (norm + 1e-5)
    return shifted


# Soft actor-critic.


def sac_target(reward, terminated, gamma, next_value, alpha, next_log_prob):
    """y = r + gamma (1 - d) (V - alpha log pi(a2|s2)), with V the target rule's value at (s2, a2).

    Haarnoja et al. 2018. `next_value` is [B], or [N, B] if each member has its own target; y has
    its shape. d is true termination, never a time limit.
    """
    y = np.zeros_like(next_value)
    for index in np.ndindex(next_value.shape):
        b = index[-1]
        soft_value = next_value[index] - alpha * next_log_prob[b]
        y[index] = reward[b] + gamma * (1.0 - terminated[b]) * soft_value
    return y


def critic_loss(q, y, weight=None, mask=None):
    """sum_i mean_B w (Q_i - y)^2: summed over members, no factor 1/2, no gradient through w or y.

    `y` is [B] or [N, B]; `weight` is [B], a scalar, or None for 1. With a bootstrap `mask` [N, B] a
    member's mean becomes sum_b mask w (Q_i - y)^2 / (sum_b mask + 1), SUNRISE's released normaliser.
    """
    count, batch = q.shape
    targets = np.broadcast_to(y, q.shape)
    weights = np.broadcast_to(1.0 if weight is None else weight, batch)
    total = 0.0
    for i in range(count):
        squares = [weights[b] * (q[i, b] - targets[i, b]) ** 2 for b in range(batch)]
        if mask is None:
            total += sum(squares) / batch
        else:
            total += sum(mask[i, b] * squares[b] for b in range(batch)) / (sum(mask[i]) + 1.0)
    return total


def actor_loss(alpha, log_prob, q, reduce="min"):
    """mean_B [ alpha log pi(a~|s) - reduce_i Q_i(s, a~) ], reduce the min (SAC-N) or mean (REDQ)."""
    value = {"min": min_q, "mean": mean_q}[reduce](q)
    batch = len(value)
    return sum(alpha * log_prob[b] - value[b] for b in range(batch)) / batch


def temperature_loss(log_alpha, log_prob, target_entropy, form):
    """-mean_B [ c (log pi(a~|s) + H) ], H = -A by default, with no gradient through log pi.

    form "exp": c = exp(log_alpha) (d3rlpy, ENOTO, RLPD); form "log": c = log_alpha (CORL, EDAC).
    """
    coefficient = {"exp": np.exp(log_alpha), "log": log_alpha}[form]
    return -sum(coefficient * (value + target_entropy) for value in log_prob) / len(log_prob)


# Conservative Q-learning.


def log_sum_exp(values):
    """log sum_k exp(x_k), shifted by the largest value."""
    largest = max(values)
    return largest + np.log(sum(np.exp(x - largest) for x in values))


def cql_penalty(
    q_data,
    q_random,
    q_current,
    q_next,
    log_prob_current,
    log_prob_next,
    action_size,
    importance_sampling=True,
    clip=(-np.inf, np.inf),
    reduction="mean",
):
    """The conservative gap of CQL(H) (Kumar et al. 2020): a scalar and each critic's own gap [N].

    gap_i = mean_B clip( LSE_i(s) - Q_i(s, a) ), LSE_i(s) = log sum exp over the entries of critic i:
    with importance sampling, Q_i(s, u) - A log 0.5 for uniform u in [-1, 1]^A, Q_i(s, a~) -
    log pi(a~|s) and Q_i(s, a') - log pi(a'|s2), a' drawn at s2 but valued at s; without it, the same
    values with no densities, and the data set's Q_i(s, a) among them, at temperature 1.

    `q_data` is [N, B], the other values [N, K, B], the log densities [K, B] (not read without
    importance sampling). `reduction` over critics: "mean" (d3rlpy, ENOTO) or "sum" (CORL).
    """
    count, batch = q_data.shape
    gaps = np.zeros(count)
    for i in range(count):
        for b in range(batch):
            if importance_sampling:
                entries = [value - action_size * np.log(0.5) for value in q_random[i, :, b]]
                entries += list(q_current[i, :, b] - log_prob_current[:, b])
                entries += list(q_next[i, :, b] - log_prob_next[:, b])
            else:
                entries = [*q_random[i, :, b], *q_current[i, :, b], *q_next[i, :, b], q_data[i, b]]
            difference = log_sum_exp(entries) - q_data[i, b]
            gaps[i] += min(max(difference, clip[0]), clip[1]) / batch
    return {"mean": gaps.mean(), "sum": gaps.sum()}[reduction], gaps


def multiplier(log_multiplier, largest=1e6):
    """exp(log alpha'), clamped to [0, largest]."""
    return min(np.exp(log_multiplier), largest)


def cql_lagrange_d3rlpy(log_multiplier, gap, weight, threshold):
    """d3rlpy's and ENOTO's form, on the scalar gap (mean over critics).

    Critic term: alpha' (weight gap - threshold). Multiplier loss: its negative. ENOTO keeps alpha' at
    exp(0) = 1 (learning rate 0), so that the threshold is only a constant. Returns both.
    """
    term = multiplier(log_multiplier) * (weight * gap - threshold)
    return term, -term


def cql_lagrange_corl(log_multiplier, gaps, weight, target):
    """CORL's form, on the gaps of the critics [N].

    Critic term: sum_i alpha' weight (gap_i - target). Multiplier loss: minus the mean over critics of
    the same, which for CORL's two critics is its -0.5 sum_i. Returns both.
    """
    terms = [multiplier(log_multiplier) * weight * (gap - target) for gap in gaps]
    return sum(terms), -sum(terms) / len(terms)


def deterministic_backup(
    actor_tree, target_tree, reward, terminated, gamma, next_observation, rule=min_q
):
    """y = r + gamma (1 - d) rule_i Qt_i(s2, tanh(mean(s2))): d3rlpy's CQL target, without entropy."""
    mean, _ = mlp_actor(actor_tree, next_observation)
    next_value = rule(critics(target_tree, next_observation, np.tanh(mean)))
    return sac_target(reward, terminated, gamma, next_value, 0.0, np.zeros_like(reward))


def max_backup(q):
    """max over K samples of min over critics of Qt_i(s2, a_k), [N, K, B] to [B] (CORL's CQL)."""
    _, _, batch = q.shape
    return np.array([max(min(column) for column in q[:, :, b].T) for b in range(batch)])


# Optimisation.


def polyak(target, online, tau):
    """(1 - tau) target + tau online, leaf by leaf."""
    if isinstance(target, dict):
        return {name: polyak(target[name], online[name], tau) for name in target}
    return (1.0 - tau) * target + tau * online


def adam(gradients, learning_rate, b1=0.9, b2=0.999, eps=1e-8):
    """What Adam (Kingma & Ba 2015) adds to a parameter at each step, for a sequence of gradients.

    m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2; at step t the parameter gains
    -lr m / (1 - b1^t) / ( sqrt(v / (1 - b2^t)) + eps ).
    """
    first = np.zeros_like(gradients[0])
    second = np.zeros_like(gradients[0])
    updates = []
    for t, gradient in enumerate(gradients, start=1):
        first = b1 * first + (1.0 - b1) * gradient
        second = b2 * second + (1.0 - b2) * gradient**2
        scale = np.sqrt(second / (1.0 - b2**t)) + eps
        updates.append(-learning_rate * first / (1.0 - b1**t) / scale)
    return updates
