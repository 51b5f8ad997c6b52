"""Networks by what they are for - pairs, graphs, sets, codes, several outputs - as strangers write them."""

from __future__ import annotations

# ruff: noqa
# The code of strangers is as it is.
import torch
import torch.nn.functional as F
from torch import nn

from foreign.kinds import drawn, graph, kind, pair, tokens

IMAGE = drawn(3, 16, 16)


@kind(pair(IMAGE, drawn(3, 16, 16, seed=9)))
class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.fc = nn.Linear(12, 6)
        self.dist = nn.Linear(6, 1)

    def once(self, x):
        return self.fc(self.enc(x))

    def forward(self, a, b):
        return torch.sigmoid(self.dist(torch.abs(self.once(a) - self.once(b))))


@kind(drawn(20))
class Vae(nn.Module):
    def __init__(self, latent=4):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(20, 24), nn.ELU())
        self.mu, self.logvar = nn.Linear(24, latent), nn.Linear(24, latent)
        self.decoder = nn.Sequential(nn.Linear(latent, 24), nn.ELU(), nn.Linear(24, 20))

    def forward(self, x):
        h = self.encoder(x)
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp() if self.training else mu
        return self.decoder(z), mu, logvar


@kind(drawn(8))
class Generator(nn.Module):
    """DCGAN: a vector becomes a map, which grows."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 16 * 4 * 4)
        self.main = nn.Sequential(
            nn.BatchNorm2d(16),
            nn.ConvTranspose2d(16, 12, 4, 2, 1, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU(True),
            nn.ConvTranspose2d(12, 3, 4, 2, 1),
            nn.Tanh(),
        )

    def forward(self, z):
        return self.main(self.fc(z).view(-1, 16, 4, 4))


@kind(drawn(8))
class GeneratorFromOne(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.ModuleList([nn.ConvTranspose2d(8, 16, 4), nn.ConvTranspose2d(16, 8, 4, 2, 1)])
        self.rgb = nn.Conv2d(8, 3, 1)

    def forward(self, z):
        x = z[:, :, None, None]
        for layer in self.up:
            x = F.leaky_relu(layer(x), 0.2)
        return torch.tanh(self.rgb(x))


@kind(IMAGE)
class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        sn = nn.utils.spectral_norm
        self.l = nn.Sequential(
            sn(nn.Conv2d(3, 8, 4, 2, 1)), nn.LeakyReLU(0.2), sn(nn.Conv2d(8, 12, 4, 2, 1)), nn.LeakyReLU(0.2)
        )
        self.out = nn.Conv2d(12, 1, 4)

    def forward(self, x):
        return self.out(self.l(x)).view(-1)


@kind(IMAGE)
class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.SELU(), nn.Conv2d(8, 6, 3, 2, 1), nn.Flatten(), nn.Linear(96, 10)
        )
        self.d = nn.Sequential(
            nn.Linear(10, 96),
            nn.Unflatten(1, (6, 4, 4)),
            nn.ConvTranspose2d(6, 8, 2, 2),
            nn.SELU(),
            nn.ConvTranspose2d(8, 3, 2, 2),
            nn.Sigmoid(),
        )

    def forward(self, x):
        return self.d(self.e(x))


@kind(graph(6, 5))
class GraphConv(nn.Module):
    def __init__(self):
        super().__init__()
        self.w1, self.w2 = nn.Linear(5, 16), nn.Linear(16, 12)
        self.out = nn.Linear(12, 3)

    def forward(self, x, adj):
        deg = adj.sum(-1, keepdim=True)
        x = F.relu(adj @ self.w1(x) / deg)
        x = F.relu(torch.bmm(adj, self.w2(x)) / deg)
        return self.out(x.mean(1))


@kind(graph(6, 5))
class GraphAttention(nn.Module):
    def __init__(self, h=8):
        super().__init__()
        self.W = nn.Linear(5, h, bias=False)
        self.a1, self.a2 = nn.Linear(h, 1, bias=False), nn.Linear(h, 1, bias=False)
        self.mlp = nn.Sequential(nn.Linear(h, 10), nn.ReLU(), nn.Linear(10, 3))

    def forward(self, x, adj):
        x = self.W(x)
        e = F.leaky_relu(self.a1(x) + self.a2(x).transpose(1, 2), 0.2)
        a = e.masked_fill(adj == 0, float("-inf")).softmax(-1)
        return self.mlp(a @ x).sum(1)


@kind(graph(6, 5))
class MessagePassing(nn.Module):
    """Every pair of nodes by a small network, summed over neighbours."""

    def __init__(self, h=10):
        super().__init__()
        self.edge = nn.Sequential(nn.Linear(10, h), nn.ReLU(), nn.Linear(h, h))
        self.node = nn.Linear(5 + h, h)
        self.out = nn.Linear(h, 2)

    def forward(self, x, adj):
        n = x.shape[1]
        i = x.unsqueeze(2).expand(-1, -1, n, -1)
        j = x.unsqueeze(1).expand(-1, n, -1, -1)
        m = (self.edge(torch.cat([i, j], -1)) * adj.unsqueeze(-1)).sum(2)
        return self.out(torch.tanh(self.node(torch.cat([x, m], -1))).amax(1))


@kind(drawn(7, 4))
class DeepSets(nn.Module):
    def __init__(self):
        super().__init__()
        self.phi = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU())
        self.rho = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, x):
        return self.rho(self.phi(x).sum(dim=1))


@kind(drawn(3, 20))
class PointNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1, self.c2 = nn.Conv1d(3, 12, 1), nn.Conv1d(12, 20, 1)
        self.b1, self.b2 = nn.BatchNorm1d(12), nn.BatchNorm1d(20)
        self.tnet = nn.Linear(20, 9)
        self.seg = nn.Conv1d(32, 4, 1)

    def forward(self, x):
        local = F.relu(self.b1(self.c1(x)))
        glob = torch.max(self.b2(self.c2(local)), 2)[0]
        turned = torch.bmm(self.tnet(glob).view(-1, 3, 3), x)
        both = torch.cat([local, glob.unsqueeze(-1).repeat(1, 1, x.size(2))], 1)
        return self.seg(both), turned


@kind(pair(IMAGE, drawn(6)))
class Film(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12, affine=False)
        self.gen = nn.Linear(6, 24)
        self.fc = nn.Linear(12, 5)

    def forward(self, x, cond):
        gamma, beta = self.gen(cond).chunk(2, dim=-1)
        x = self.bn(self.conv(x))
        x = F.relu(x * (1 + gamma[:, :, None, None]) + beta[:, :, None, None])
        return self.fc(x.mean((2, 3)))


@kind(pair(drawn(4, 6), drawn(5)))
class HyperNetwork(nn.Module):
    """The weights of a layer are calculated."""

    def __init__(self):
        super().__init__()
        self.hyper = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 6 * 8))
        self.last = nn.Linear(8, 3)

    def forward(self, x, c):
        w = self.hyper(c).view(-1, 6, 8)
        return self.last(torch.relu(x @ w))


@kind(tokens())
class TiedLanguage(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(20, 16)
        self.f1, self.f2 = nn.Linear(16, 32), nn.Linear(32, 16)
        self.out = nn.Linear(16, 20, bias=False)
        self.out.weight = self.emb.weight

    def forward(self, ids):
        x = self.emb(ids)
        return self.out(x + self.f2(F.silu(self.f1(x))))


@kind(IMAGE)
class MultiTask(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 12, 3, 2), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 16, 3, 2), nn.ReLU()
        )
        self.heads = nn.ModuleDict({"depth": nn.Conv2d(16, 1, 1), "label": nn.Linear(16, 5), "box": nn.Linear(16, 4)})
        self.aux = nn.Linear(16, 3)

    def forward(self, x):
        f = self.body(x)
        g = f.mean((2, 3))
        out = {"depth": self.heads["depth"](f), "label": self.heads["label"](g), "box": self.heads["box"](g).relu()}
        if self.training:
            out["aux"] = self.aux(g)
        return out
