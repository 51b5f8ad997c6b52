"""Networks of numbers in rows, as strangers write them: raw matrices, shared layers, other parametrisations."""

from __future__ import annotations

# ruff: noqa
# The code of strangers is as it is.
import torch
import torch.nn.functional as F
from torch import nn

from foreign.kinds import drawn, kind, named, pair, tokens

IMAGE = drawn(3, 16, 16)


@kind(drawn(10))
class SharedTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp, self.shared, self.out = nn.Linear(10, 16), nn.Linear(16, 16), nn.Linear(16, 4)
        self.alias = self.shared

    def forward(self, x):
        x = torch.relu(self.inp(x))
        for _ in range(2):
            x = torch.relu(self.shared(x))
        return self.out(torch.relu(self.alias(x)))


@kind(named(user=tokens(3, 20), item=tokens(1, 20), dense=drawn(5)))
class Recommender(nn.Module):
    """DLRM: bags and tables, pairwise products, keywords in, a dictionary out."""

    def __init__(self, d=8):
        super().__init__()
        self.users, self.items = nn.Embedding(20, d), nn.Embedding(20, d)
        self.bottom = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, d))
        self.top = nn.Sequential(nn.Linear(d + 3, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, user, item, dense):
        b = self.bottom(dense)
        parts = torch.stack([b, self.users(user).mean(1), self.items(item).squeeze(1)], 1)
        z = torch.bmm(parts, parts.transpose(1, 2))
        inter = torch.stack([z[:, 0, 1], z[:, 0, 2], z[:, 1, 2]], 1)
        return {"score": self.top(torch.cat([b, inter], 1)).squeeze(-1)}


@kind(named(wide=drawn(6), deep=drawn(9)))
class WideAndDeep(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide = nn.Linear(6, 1)
        self.deep = nn.Sequential(nn.Linear(9, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU())
        self.logit = nn.Linear(8, 1)

    def forward(self, wide, deep):
        return torch.sigmoid(self.wide(wide) + self.logit(self.deep(deep)))


@kind(drawn(8))
class RawMatrices(nn.Module):
    """No layers at all."""

    def __init__(self):
        super().__init__()
        self.W1, self.b1 = nn.Parameter(torch.randn(8, 16) * 0.3), nn.Parameter(torch.zeros(16))
        self.W2, self.b2 = nn.Parameter(torch.randn(16, 12) * 0.3), nn.Parameter(torch.zeros(12))
        self.W3 = nn.Parameter(torch.randn(12, 3) * 0.3)

    def forward(self, x):
        x = torch.tanh(x @ self.W1 + self.b1)
        x = torch.tanh(torch.matmul(x, self.W2) + self.b2)
        return x.mm(self.W3)


@kind(drawn(8))
class FunctionalList(nn.Module):
    def __init__(self):
        super().__init__()
        sizes = [8, 20, 14, 4]
        self.ws = nn.ParameterList([nn.Parameter(torch.randn(o, i) * 0.3) for i, o in zip(sizes, sizes[1:])])
        self.bs = nn.ParameterList([nn.Parameter(torch.zeros(o)) for o in sizes[1:]])

    def forward(self, x):
        for n, (w, b) in enumerate(zip(self.ws, self.bs)):
            x = F.linear(x, w, b)
            if n < len(self.ws) - 1:
                x = F.softplus(x)
        return x


@kind(drawn(10))
class Highway(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp = nn.Linear(10, 12)
        self.h, self.t = (
            nn.ModuleList([nn.Linear(12, 12) for _ in range(2)]),
            nn.ModuleList([nn.Linear(12, 12) for _ in range(2)]),
        )
        self.out = nn.Linear(12, 3)

    def forward(self, x):
        x = self.inp(x)
        for h, t in zip(self.h, self.t):
            g = torch.sigmoid(t(x))
            x = g * F.relu(h(x)) + (1 - g) * x
        return self.out(x)


@kind(drawn(10))
class MixtureDensity(nn.Module):
    def __init__(self, k=3):
        super().__init__()
        self.k = k
        self.trunk = nn.Sequential(nn.Linear(10, 24), nn.Tanh(), nn.Linear(24, 16), nn.Tanh())
        self.z = nn.Linear(16, 3 * k)

    def forward(self, x):
        pi, mu, sigma = torch.split(self.z(self.trunk(x)), self.k, -1)
        return pi.softmax(-1), mu, torch.exp(sigma)


@kind(drawn(10))
class TabularResNet(nn.Module):
    def __init__(self, d=16):
        super().__init__()
        self.first = nn.Linear(10, d)
        self.blocks = nn.ModuleList(
            [
                nn.Sequential(nn.BatchNorm1d(d), nn.Linear(d, 24), nn.ReLU(), nn.Dropout(), nn.Linear(24, d))
                for _ in range(2)
            ]
        )
        self.last = nn.Sequential(nn.BatchNorm1d(d), nn.ReLU(), nn.Linear(d, 2))

    def forward(self, x):
        x = self.first(x)
        for b in self.blocks:
            x = x + b(x)
        return self.last(x)


@kind(drawn(2))
class Coordinates(nn.Module):
    """NeRF and SIREN: encoded by sines of literal frequencies, joined again half way."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(2 + 2 * 2 * 3, 20), nn.Linear(20 + 14, 16)
        self.sigma, self.rgb = nn.Linear(16, 1), nn.Linear(16, 3)

    def forward(self, x):
        e = torch.cat([x] + [f(x * 2.0**i) for i in range(3) for f in (torch.sin, torch.cos)], -1)
        h = torch.sin(30 * self.a(e))
        h = F.relu(self.b(torch.cat([h, e], -1)))
        return torch.cat([F.relu(self.sigma(h)), torch.sigmoid(self.rgb(h))], -1)


@kind(drawn(10))
class LowRank(nn.Module):
    """LoRA by hand: a frozen matrix and two thin ones beside it."""

    def __init__(self):
        super().__init__()
        self.base, self.A, self.B = nn.Linear(10, 16), nn.Linear(10, 3, bias=False), nn.Linear(3, 16, bias=False)
        self.out = nn.Linear(16, 4)

    def forward(self, x):
        return self.out(F.relu(self.base(x) + 0.5 * self.B(self.A(x))))


@kind(drawn(10))
class Bilinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.l, self.r = nn.Linear(10, 6), nn.Linear(10, 7)
        self.bi = nn.Bilinear(6, 7, 8)
        self.out = nn.Linear(8, 2)

    def forward(self, x):
        return self.out(torch.relu(self.bi(self.l(x), self.r(x))))


@kind(drawn(10))
class WeightNormed(nn.Module):
    def __init__(self):
        super().__init__()
        wn = nn.utils.parametrizations.weight_norm
        self.net = nn.Sequential(wn(nn.Linear(10, 16)), nn.ReLU(), wn(nn.Linear(16, 12)), nn.ReLU(), nn.Linear(12, 3))

    def forward(self, x):
        return self.net(x)


@kind(drawn(10))
class MetricEmbedding(nn.Module):
    """Unit vectors against prototypes."""

    def __init__(self):
        super().__init__()
        self.f = nn.Sequential(nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, 8))
        self.proto = nn.Parameter(torch.randn(5, 8))

    def forward(self, x):
        return F.normalize(self.f(x), dim=1) @ F.normalize(self.proto, dim=1).t() * 10


@kind(pair(drawn(8), drawn(3, seed=8)))
class ActorCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.base = nn.Sequential(nn.Linear(8, 16), nn.Tanh())
        self.pi, self.v, self.log_std = nn.Linear(16, 3), nn.Linear(16, 1), nn.Parameter(torch.zeros(3))
        self.q = nn.Sequential(nn.Linear(11, 12), nn.ReLU(), nn.Linear(12, 1))

    def forward(self, obs, act):
        h = self.base(obs)
        return (
            self.pi(h),
            self.log_std.exp().expand(len(obs), -1),
            self.v(h).squeeze(-1),
            self.q(torch.cat((obs, act), -1)),
        )


@kind(drawn(8))
class DuelingNoFlatten(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Linear(8, 16)
        self.value, self.adv = (
            nn.Sequential(nn.Linear(16, 10), nn.ReLU(), nn.Linear(10, 1)),
            nn.Sequential(nn.Linear(16, 10), nn.ReLU(), nn.Linear(10, 4)),
        )

    def forward(self, x):
        x = F.relu(self.f(x))
        a = self.adv(x)
        return self.value(x) + a - a.mean(dim=1, keepdim=True)
