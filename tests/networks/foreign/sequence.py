"""Networks of sequences, as strangers write them: recurrences, scans, convolutions, gates."""

from __future__ import annotations

# ruff: noqa
# The code of strangers is as it is.
import torch
import torch.nn.functional as F
from torch import nn

from foreign.kinds import drawn, kind, tokens

STEPS = drawn(12, 8)


@kind(tokens())
class LstmTagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(20, 8, padding_idx=0)
        self.lstm = nn.LSTM(8, 12, batch_first=True, bidirectional=True)
        self.fc, self.out = nn.Linear(24, 16), nn.Linear(16, 5)

    def forward(self, x):
        y, (h, c) = self.lstm(self.emb(x))
        return self.out(torch.relu(self.fc(y)))


@kind(STEPS)
class GruForecast(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp, self.gru = nn.Linear(8, 16), nn.GRU(16, 12, num_layers=2)
        self.head = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, x):
        _, h = self.gru(torch.relu(self.inp(x)).transpose(0, 1))
        return self.head(h[-1])


@kind(drawn(4, 8))
class LstmCellLoop(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.LSTMCell(8, 10)
        self.fc = nn.Linear(10, 3)

    def forward(self, x):
        h = x.new_zeros(x.size(0), 10)
        c = x.new_zeros(x.size(0), 10)
        for t in range(x.size(1)):
            h, c = self.cell(x[:, t], (h, c))
        return self.fc(h)


@kind(drawn(4, 8))
class HandMadeLstm(nn.Module):
    def __init__(self, n=10):
        super().__init__()
        self.wx, self.wh, self.out = nn.Linear(8, 4 * n), nn.Linear(n, 4 * n, bias=False), nn.Linear(n, 3)

    def forward(self, x):
        h = c = torch.zeros(x.shape[0], self.wh.in_features, dtype=x.dtype)
        for t in range(x.shape[1]):
            i, f, g, o = (self.wx(x[:, t]) + self.wh(h)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        return self.out(h)


@kind(drawn(5, 8))
class Elman(nn.Module):
    """A recurrence whose state starts as a learnt vector."""

    def __init__(self, n=12):
        super().__init__()
        self.i, self.h, self.o = nn.Linear(8, n), nn.Linear(n, n), nn.Linear(n, 4)
        self.h0 = nn.Parameter(torch.zeros(n))

    def forward(self, x):
        h, out = self.h0.expand(x.size(0), -1), []
        for xt in x.unbind(1):
            h = torch.tanh(self.i(xt) + self.h(h))
            out += [self.o(h)]
        return torch.stack(out, 1)


@kind(drawn(8, 16))
class Tcn(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1, self.c2 = nn.Conv1d(8, 12, 3, padding=2), nn.Conv1d(12, 12, 3, padding=4, dilation=2)
        self.down = nn.Conv1d(8, 12, 1)
        self.fc = nn.Linear(12, 2)

    def forward(self, x):
        y = F.relu(self.c1(x)[:, :, :-2])
        y = F.relu(self.c2(y)[:, :, :-4].contiguous())
        return self.fc(F.relu(y + self.down(x))[:, :, -1])


@kind(drawn(4, 24))
class WaveNet(nn.Module):
    def __init__(self, r=8, s=12):
        super().__init__()
        self.start = nn.Conv1d(4, r, 1)
        self.f = nn.ModuleList([nn.Conv1d(r, r, 2, dilation=d) for d in (1, 2)])
        self.g = nn.ModuleList([nn.Conv1d(r, r, 2, dilation=d) for d in (1, 2)])
        self.res = nn.ModuleList([nn.Conv1d(r, r, 1) for _ in range(2)])
        self.skip = nn.ModuleList([nn.Conv1d(r, s, 1) for _ in range(2)])
        self.end = nn.Conv1d(s, 4, 1)

    def forward(self, x):
        x, skips = self.start(x), 0
        for f, g, r, s in zip(self.f, self.g, self.res, self.skip):
            z = torch.tanh(f(x)) * torch.sigmoid(g(x))
            z = F.pad(z, (x.size(-1) - z.size(-1), 0))
            skips = skips + s(z)
            x = x + r(z)
        return self.end(F.relu(skips))


@kind(STEPS)
class MambaLike(nn.Module):
    def __init__(self, d=8, e=16, n=4):
        super().__init__()
        self.n = n
        self.inp, self.conv = nn.Linear(d, 2 * e), nn.Conv1d(e, e, 3, groups=e, padding=2)
        self.xp, self.dt, self.out = nn.Linear(e, 2 + 2 * n), nn.Linear(2, e), nn.Linear(e, d)
        self.A_log, self.D = nn.Parameter(torch.log(torch.arange(1.0, n + 1).repeat(e, 1))), nn.Parameter(torch.ones(e))

    def forward(self, x):
        u, z = self.inp(x).chunk(2, -1)
        u = F.silu(self.conv(u.transpose(1, 2))[..., : x.shape[1]]).transpose(1, 2)
        dt, B, C = torch.split(self.xp(u), [2, self.n, self.n], -1)
        dt, A = F.softplus(self.dt(dt)), -torch.exp(self.A_log)
        h, ys = u.new_zeros(x.shape[0], u.shape[-1], self.n), []
        for t in range(x.shape[1]):
            h = h * torch.exp(dt[:, t, :, None] * A) + (dt[:, t] * u[:, t]).unsqueeze(-1) * B[:, t].unsqueeze(1)
            ys.append((h * C[:, t].unsqueeze(1)).sum(-1))
        return self.out((torch.stack(ys, 1) + u * self.D) * F.silu(z))


@kind(drawn(6, 12))
class RwkvLike(nn.Module):
    def __init__(self, d=12):
        super().__init__()
        self.mix = nn.Parameter(torch.rand(3, d))
        self.w = nn.Parameter(torch.rand(d))
        self.r, self.k, self.v, self.o = (nn.Linear(d, d, bias=False) for _ in range(4))
        self.key, self.value = nn.Linear(d, 24, bias=False), nn.Linear(24, d, bias=False)

    def forward(self, x):
        prev = F.pad(x, (0, 0, 1, -1))
        xr, xk, xv = (x * m + prev * (1 - m) for m in self.mix)
        r, k, v = torch.sigmoid(self.r(xr)), torch.exp(self.k(xk).clamp(max=5)), self.v(xv)
        num, den, out = 0, 1e-4, []
        for t in range(x.size(1)):
            num = num * torch.exp(-self.w) + k[:, t] * v[:, t]
            den = den * torch.exp(-self.w) + k[:, t]
            out.append(num / den)
        x = x + self.o(r * torch.stack(out, 1))
        return x + self.value(torch.relu(self.key(x)) ** 2)


@kind(STEPS)
class MixtureOfExperts(nn.Module):
    def __init__(self, d=8, e=4):
        super().__init__()
        self.gate = nn.Linear(d, e)
        self.experts = nn.ModuleList([nn.Sequential(nn.Linear(d, 16), nn.GELU(), nn.Linear(16, d)) for _ in range(e)])

    def forward(self, x):
        p = self.gate(x).softmax(-1)
        w, i = p.topk(2, -1)
        p = torch.zeros_like(p).scatter(-1, i, w)
        return x + sum(p[..., n : n + 1] * expert(x) for n, expert in enumerate(self.experts))


@kind(STEPS)
class StackedExperts(nn.Module):
    """All experts in one tensor, by einsum."""

    def __init__(self, d=8, e=3, f=12):
        super().__init__()
        self.gate = nn.Linear(d, e, bias=False)
        self.w1, self.w2 = nn.Parameter(torch.randn(e, d, f) * 0.3), nn.Parameter(torch.randn(e, f, d) * 0.3)

    def forward(self, x):
        p = F.softmax(self.gate(x), dim=-1)
        h = F.gelu(torch.einsum("btd,edf->btef", x, self.w1))
        return torch.einsum("btef,efd,bte->btd", h, self.w2, p)


@kind(STEPS)
class FourierMixing(nn.Module):
    def __init__(self, d=8):
        super().__init__()
        self.ln, self.up, self.down = nn.LayerNorm(d), nn.Linear(d, 24), nn.Linear(24, d)

    def forward(self, x):
        x = self.ln(x + torch.fft.fft(torch.fft.fft(x, dim=-1), dim=-2).real)
        return x + self.down(F.gelu(self.up(x)))


@kind(STEPS)
class GluVariants(nn.Module):
    def __init__(self, d=8, f=16):
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(d, 2 * f), nn.Linear(f, 2 * f), nn.Linear(f, 2 * f), nn.Linear(f, 3)

    def forward(self, x):
        x = F.glu(self.a(x), dim=-1)
        g, u = self.b(x).chunk(2, dim=-1)
        x = F.gelu(g) * u
        y = self.c(x)
        half = y.shape[-1] // 2
        return self.d(F.silu(y[..., :half]) * y[..., half:])


@kind(tokens(12))
class TextCnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(20, 10)
        self.convs = nn.ModuleList([nn.Conv2d(1, 6, (k, 10)) for k in (2, 3, 4)])
        self.fc = nn.Linear(18, 3)

    def forward(self, x):
        x = self.emb(x).unsqueeze(1)
        x = [F.relu(c(x)).squeeze(3) for c in self.convs]
        return self.fc(torch.cat([F.max_pool1d(i, i.size(2)).squeeze(2) for i in x], 1))


@kind(STEPS)
class GatedConv(nn.Module):
    """A Conformer's convolution module."""

    def __init__(self, d=8):
        super().__init__()
        self.ln, self.pw, self.dw, self.bn, self.out = (
            nn.LayerNorm(d),
            nn.Conv1d(d, 4 * d, 1),
            nn.Conv1d(2 * d, 2 * d, 5, padding=2, groups=2 * d),
            nn.BatchNorm1d(2 * d),
            nn.Conv1d(2 * d, d, 1),
        )

    def forward(self, x):
        y = F.glu(self.pw(self.ln(x).transpose(1, 2)), dim=1)
        return x + self.out(F.silu(self.bn(self.dw(y)))).transpose(1, 2)


@kind(STEPS)
class SpatialGatingMlp(nn.Module):
    """gMLP."""

    def __init__(self, d=8, f=24, n=12):
        super().__init__()
        self.norm, self.u, self.v = nn.LayerNorm(d), nn.Linear(d, f), nn.Linear(f // 2, d)
        self.gn, self.sp = nn.LayerNorm(f // 2), nn.Conv1d(n, n, 1)

    def forward(self, x):
        a, b = F.gelu(self.u(self.norm(x))).chunk(2, dim=-1)
        return x + self.v(a * self.sp(self.gn(b)))


@kind(drawn(2, 40))
class SeparableSound(nn.Module):
    """Conv-TasNet in small: learnt frames, a mask of them, and back."""

    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Conv1d(2, 16, 8, 4, bias=False), nn.ConvTranspose1d(16, 2, 8, 4, bias=False)
        self.gn, self.sep = (
            nn.GroupNorm(1, 16),
            nn.Sequential(
                nn.Conv1d(16, 12, 1),
                nn.PReLU(),
                nn.Conv1d(12, 12, 3, padding=1, groups=12),
                nn.PReLU(),
                nn.Conv1d(12, 16, 1),
            ),
        )

    def forward(self, x):
        e = F.relu(self.enc(x))
        return self.dec(e * torch.sigmoid(self.sep(self.gn(e))))
