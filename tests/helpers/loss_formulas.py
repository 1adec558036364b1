"""The formulas of the losses in plain numpy loops and float64: slow, obvious, and sharing no code with the package."""

import math

import numpy as np

COUNTS = [100, 40, 12, 6, 3]
K = len(COUNTS)
N = np.array(COUNTS, np.float64)
PI = N / N.sum()

# One sample with logits z (K,), true class y and features h (D,), in float64.


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def ce(z, y, h):
    return -math.log(softmax(z)[y])


def smoothed(s):
    def loss(z, y, h):
        p = softmax(z)
        return -sum(((1 - s) * (k == y) + s / K) * math.log(p[k]) for k in range(K))

    return loss


def focal(gamma):
    return lambda z, y, h: (1 - softmax(z)[y]) ** gamma * ce(z, y, h)


def sigmoid_focal(gamma):
    def loss(z, y, h):
        q = [sigmoid(z[k]) if k == y else 1 - sigmoid(z[k]) for k in range(K)]
        return sum((1 - q_k) ** gamma * -math.log(q_k) for q_k in q)

    return loss


def softmax_bce(z, y, h):
    p = softmax(z)
    return sum(-math.log(p[k]) if k == y else -math.log(1 - p[k]) for k in range(K)) / K


def class_balanced(base, beta):
    w = np.array([(1 - beta) / (1 - beta**n) for n in N])
    w = w / w.sum() * K
    return lambda z, y, h: w[y] * base(z, y, h)


def reweighted(rho):
    w = PI**-rho
    w = w / w.sum() * K
    return lambda z, y, h: w[y] * ce(z, y, h)


def ldam(max_margin, scale, scaled=False):
    margins = 1 / np.sqrt(np.sqrt(N))
    margins = margins * max_margin / margins.max()

    def loss(z, y, h):
        cosines = (z / scale if scaled else z).copy()
        cosines[y] -= margins[y]
        return ce(scale * cosines, y, h)

    return loss


def adjusted(tau):
    return lambda z, y, h: ce(z + tau * np.log(PI), y, h)


def ccar(base, omega):
    def loss(z, y, h):
        p = softmax(z)[y]
        f = PI[y] if p < omega else 1 - PI[y]
        return math.exp(-f * (omega - p)) * base(z, y, h)

    return loss


def influence(alpha):
    w = 1 / N / (1 / N).sum() * K

    def loss(z, y, h):
        distance = sum(abs(p_k - (k == y)) for k, p_k in enumerate(softmax(z)))
        return w[y] * ce(z, y, h) * alpha / (distance * np.abs(h).sum() + 1e-3)

    return loss


def equalization(threshold, drawn=(1,) * K):
    def loss(z, y, h):
        w = [1 - drawn[k] * (PI[k] < threshold) * (1 - (k == y)) for k in range(K)]
        return -math.log(math.exp(z[y]) / sum(w[k] * math.exp(z[k]) for k in range(K)))

    return loss


ADDITIVE = {
    "ce": ce,
    "ce:smoothing=0.1": smoothed(0.1),
    "los": smoothed(0.98),
    "focal": focal(2),
    "focal:gamma=0.5": focal(0.5),
    "focal:gamma=1,form=sigmoid": sigmoid_focal(1),
    "cb_ce": class_balanced(ce, 0.9999),
    "cb_ce:beta=0": ce,
    "reweighted": reweighted(1),
    "reweighted:rho=1.2": reweighted(1.2),
    "cb_bce:beta=0.9": class_balanced(sigmoid_focal(0), 0.9),
    "cb_bce:form=softmax": class_balanced(softmax_bce, 0.9999),
    "cb_focal": class_balanced(sigmoid_focal(2), 0.9999),
    "ldam": ldam(0.5, 30),
    "ldam:max_margin=0.3,scale=10": ldam(0.3, 10),
    "ldam:scaled_logits=true": ldam(0.5, 30, scaled=True),
    "balanced_softmax": lambda z, y, h: ce(z + np.log(N), y, h),
    "logit_adjusted:tau=1.5": adjusted(1.5),
    "ccar": ccar(ce, 0.75),
    "ccar:base=logit_adjusted:tau=0.5,omega=0.3": ccar(adjusted(0.5), 0.3),
    "ccar:base=cb_focal": ccar(class_balanced(sigmoid_focal(2), 0.9999), 0.75),
    "ib": ce,  # before its epoch
    "ib:start_epoch=1": influence(1000),
    "ib:start_epoch=1,alpha=5": influence(5),
    "equalization:gamma=1,threshold=0.08": equalization(0.08),
    "equalization:gamma=0": ce,
}


def lade(z, t, alpha=0.1, lam=0.1):
    """The batch: z and label weights t (B, K) to (B,)."""
    bound = 0.0
    for c in range(K):
        mass = t[:, c].sum()
        own = (t[:, c] * z[:, c]).sum() / mass if mass else 0.0
        everyone = math.log(np.mean([math.exp(z_c) / PI[c] / K for z_c in z[:, c]]))
        bound -= PI[c] * (own - everyone - lam * everyone**2)
    return [sum(t[q, k] * adjusted(1)(z[q], k, None) for k in range(K)) + alpha * bound for q in range(len(z))]


def geometric_mean(z, t):
    p = np.array([softmax(z_q + np.log(N)) for z_q in z])
    present = [c for c in range(K) if t[:, c].sum() > 0]
    means = {c: (t[:, c] * p[:, c]).sum() / t[:, c].sum() for c in present}
    return -sum(math.log(means[c]) for c in present) / len(present)


MEAN_WEIGHTS = {"reweighted": PI**-1, "reweighted:rho=1.2": PI**-1.2}  # of the losses whose mean is a weighted one


def mean_of(spec, losses, t):
    """The mean of (B,) losses with label weights t (B, K)."""
    weights = MEAN_WEIGHTS.get(spec, np.ones(K))
    return losses.sum() / (np.asarray(t) @ weights / weights.mean()).sum()


def oracle(spec, z, t, h):
    """(B,) losses by the definition: linear in the label weights t (B, K)."""
    z, t, h = z.double().numpy(), t.double().numpy(), h.double().numpy()
    if spec == "lade":
        return np.array(lade(z, t))
    return np.array([sum(t[q, k] * ADDITIVE[spec](z[q], k, h[q]) for k in range(K) if t[q, k]) for q in range(len(z))])
