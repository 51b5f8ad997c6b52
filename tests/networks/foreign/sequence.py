"""Networks of sequences, as strangers write them: recurrences, scans, and attention in all its spellings."""

from __future__ import annotations

# ruff: noqa: E501, E702, N803, N806, D101, D102
import math

import torch
import torch.nn.functional as F
from foreign.kinds import drawn, kind, pair, tokens
from torch import nn

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
        h = x.new_zeros(x.size(0), 10); c = x.new_zeros(x.size(0), 10)
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
        self.mix = nn.Parameter(torch.rand(3, d)); self.w = nn.Parameter(torch.rand(d))
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


@kind(drawn(20, 6))
class PerceiverLike(nn.Module):
    def __init__(self, d=16):
        super().__init__()
        self.latents = nn.Parameter(torch.randn(4, d) * 0.02)
        self.cross = nn.MultiheadAttention(d, 4, kdim=6, vdim=6, batch_first=True)
        self.ln1, self.ln2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.ff = nn.Sequential(nn.Linear(d, 32), nn.GELU(), nn.Linear(32, d))
        self.fc = nn.Linear(d, 3)

    def forward(self, x):
        z = self.latents.unsqueeze(0).repeat(x.shape[0], 1, 1)
        z = z + self.cross(self.ln1(z), x, x, need_weights=False)[0]
        return self.fc((z + self.ff(self.ln2(z))).mean(1))


@kind(pair(drawn(5, 16), drawn(9, 12, seed=6)))
class CrossAttention(nn.Module):
    def __init__(self, d=16, h=4):
        super().__init__()
        self.heads = h
        self.to_q, self.to_kv, self.to_out = nn.Linear(d, d, bias=False), nn.Linear(12, 2 * d, bias=False), nn.Linear(d, d)

    def forward(self, x, context):
        b, n, _ = x.shape
        k, v = self.to_kv(context).chunk(2, dim=-1)
        q, k, v = (t.reshape(b, -1, self.heads, 4).transpose(1, 2) for t in (self.to_q(x), k, v))
        a = torch.softmax(torch.einsum("bhid,bhjd->bhij", q, k) / 2, -1)
        return x + self.to_out(torch.einsum("bhij,bhjd->bhid", a, v).transpose(1, 2).reshape(b, n, -1))


class RmsNorm(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


@kind(tokens())
class LlamaStyle(nn.Module):
    """Grouped queries, rotary positions, a gated MLP."""

    def __init__(self, d=32, h=4, kv=2):
        super().__init__()
        self.h, self.kv, self.hd = h, kv, d // h
        self.tok = nn.Embedding(20, d)
        self.n1, self.n2 = RmsNorm(d), RmsNorm(d)
        self.wq, self.wk, self.wv, self.wo = nn.Linear(d, d, bias=False), nn.Linear(d, kv * 8, bias=False), nn.Linear(d, kv * 8, bias=False), nn.Linear(d, d, bias=False)
        self.w1, self.w2, self.w3 = nn.Linear(d, 48, bias=False), nn.Linear(48, d, bias=False), nn.Linear(d, 48, bias=False)
        f = torch.outer(torch.arange(16.0), 1 / 10000 ** (torch.arange(0, 8, 2) / 8))
        self.register_buffer("cos", torch.cat([f, f], -1).cos(), persistent=False); self.register_buffer("sin", torch.cat([f, f], -1).sin(), persistent=False)

    def rope(self, x):
        a, b = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
        n = x.shape[-2]
        return x * self.cos[:n] + torch.cat((-b, a), dim=-1) * self.sin[:n]

    def forward(self, ids):
        x = self.tok(ids)
        B, T, _ = x.shape
        y = self.n1(x)
        q = self.rope(self.wq(y).view(B, T, self.h, self.hd).transpose(1, 2))
        k = self.rope(self.wk(y).view(B, T, self.kv, self.hd).transpose(1, 2))
        v = self.wv(y).view(B, T, self.kv, self.hd).transpose(1, 2)
        k, v = k.repeat_interleave(self.h // self.kv, 1), v.repeat_interleave(self.h // self.kv, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).contiguous().view(B, T, -1)
        x = x + self.wo(y)
        y = self.n2(x)
        return x + self.w2(F.silu(self.w1(y)) * self.w3(y))


@kind(STEPS)
class InterleavedRotary(nn.Module):
    """GPT-J's rotary positions: neighbours are turned, on a part of each head."""

    def __init__(self, d=8, h=2):
        super().__init__()
        self.h = h
        self.q, self.k, self.v, self.o = (nn.Linear(d, d) for _ in range(4))

    def turn(self, x):
        t = torch.arange(x.size(1), dtype=x.dtype)[None, :, None, None]
        rot, rest = x[..., :2], x[..., 2:]
        even, odd = rot[..., ::2], rot[..., 1::2]
        rot = torch.stack([even * t.cos() - odd * t.sin(), odd * t.cos() + even * t.sin()], -1).flatten(-2)
        return torch.cat([rot, rest], -1)

    def forward(self, x):
        B, T, D = x.shape
        q, k, v = (l(x).view(B, T, self.h, D // self.h) for l in (self.q, self.k, self.v))
        q, k = self.turn(q).permute(0, 2, 1, 3), self.turn(k).permute(0, 2, 1, 3)
        a = torch.matmul(q, k.transpose(-1, -2)).softmax(-1)
        return self.o(torch.matmul(a, v.permute(0, 2, 1, 3)).permute(0, 2, 1, 3).reshape(B, T, -1))


@kind(STEPS)
class Alibi(nn.Module):
    def __init__(self, d=8, h=4):
        super().__init__()
        self.h = h
        self.qkv, self.o = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.register_buffer("slopes", 2.0 ** -torch.arange(1.0, h + 1))

    def forward(self, x):
        B, T, D = x.shape
        q, k, v = self.qkv(x).split(D, dim=2)
        q, k, v = (t.view(B, T, self.h, D // self.h).transpose(1, 2) for t in (q, k, v))
        far = -(torch.arange(T)[:, None] - torch.arange(T)[None]).abs()
        a = q @ k.transpose(-2, -1) / math.sqrt(k.size(-1)) + self.slopes.view(1, -1, 1, 1) * far
        return self.o((F.softmax(a, -1) @ v).transpose(1, 2).contiguous().view(B, T, -1))


@kind(STEPS)
class RelativeBias(nn.Module):
    """T5: a table of biases, by the bucket of the distance, one for each head."""

    def __init__(self, d=8, h=4, inner=16):
        super().__init__()
        self.h = h
        self.q, self.k, self.v, self.o = nn.Linear(d, inner, bias=False), nn.Linear(d, inner, bias=False), nn.Linear(d, inner, bias=False), nn.Linear(inner, d, bias=False)
        self.bias = nn.Embedding(23, h)
        self.wi0, self.wi1, self.wo = nn.Linear(d, 20, bias=False), nn.Linear(d, 20, bias=False), nn.Linear(20, d, bias=False)

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = [w(x).view(b, n, self.h, -1).transpose(1, 2) for w in (self.q, self.k, self.v)]
        rel = torch.arange(n)[None] - torch.arange(n)[:, None] + 11
        s = q @ k.transpose(3, 2) + self.bias(rel).permute(2, 0, 1).unsqueeze(0)
        y = x + self.o((s.softmax(-1) @ v).transpose(1, 2).reshape(b, n, -1))
        return y + self.wo(F.gelu(self.wi0(y), approximate="tanh") * self.wi1(y))


@kind(STEPS)
class EinsumAttention(nn.Module):
    """Projections as raw tensors [width, heads, size], all by einsum."""

    def __init__(self, d=8, h=4, k=4):
        super().__init__()
        self.wq, self.wk, self.wv = (nn.Parameter(torch.randn(d, h, k) * 0.3) for _ in range(3))
        self.wo = nn.Parameter(torch.randn(h, k, d) * 0.3)

    def forward(self, x):
        q, k, v = (torch.einsum("bnd,dhk->bhnk", x, w) for w in (self.wq, self.wk, self.wv))
        a = torch.einsum("bhik,bhjk->bhij", q, k).softmax(-1)
        return torch.einsum("bhij,bhjk,hkd->bid", a, v, self.wo)


@kind(STEPS)
class KernelAttention(nn.Module):
    """Linear attention: softmax is replaced by elu + 1."""

    def __init__(self, d=8, h=2):
        super().__init__()
        self.h = h
        self.q, self.k, self.v, self.o = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d)

    def forward(self, x):
        B, N, D = x.size()
        q, k, v = (f(x).view(B, N, self.h, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        q, k = F.elu(q) + 1, F.elu(k) + 1
        z = 1 / (q * k.sum(2, keepdim=True)).sum(-1, keepdim=True)
        y = q @ (k.transpose(-1, -2) @ v) * z
        return self.o(y.transpose(1, 2).reshape(B, N, -1))


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


@kind(tokens())
class Gpt(nn.Module):
    """nanoGPT's block."""

    def __init__(self, d=16, h=4):
        super().__init__()
        self.n_head, self.n_embd = h, d
        self.wte, self.wpe = nn.Embedding(20, d), nn.Embedding(16, d)
        self.ln_1, self.ln_2, self.ln_f = nn.LayerNorm(d), nn.LayerNorm(d), nn.LayerNorm(d)
        self.c_attn, self.c_proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.c_fc, self.mlp_proj = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
        self.lm_head = nn.Linear(d, 20, bias=False)
        self.wte.weight = self.lm_head.weight

    def forward(self, idx):
        x = self.wte(idx) + self.wpe(torch.arange(idx.size(1)))
        B, T, C = x.size()
        q, k, v = self.c_attn(self.ln_1(x)).split(self.n_embd, dim=2)
        k = k.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        q = q.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        v = v.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).contiguous().view(B, T, C)
        x = x + self.c_proj(y)
        x = x + self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x))))
        return self.lm_head(self.ln_f(x))


@kind(pair(tokens(9), tokens(7)))
class TorchTransformer(nn.Module):
    def __init__(self, d=16):
        super().__init__()
        self.src, self.tgt = nn.Embedding(20, d), nn.Embedding(20, d)
        self.tr = nn.Transformer(d, 4, 1, 1, 32, batch_first=True)
        self.out = nn.Linear(d, 20)

    def forward(self, a, b):
        mask = self.tr.generate_square_subsequent_mask(b.size(1)).to(self.out.weight.dtype)
        return self.out(self.tr(self.src(a), self.tgt(b), tgt_mask=mask))


@kind(drawn(4, 6, 16))
class AxialAttention(nn.Module):
    """Rows, then columns, with the batch folded in."""

    def __init__(self, d=16):
        super().__init__()
        self.row, self.col = nn.MultiheadAttention(d, 2, batch_first=True), nn.MultiheadAttention(d, 2, batch_first=True)
        self.fc = nn.Linear(d, 4)

    def forward(self, x):
        b, h, w, d = x.shape
        r = x.reshape(b * h, w, d)
        x = x + self.row(r, r, r)[0].view(b, h, w, d)
        c = x.transpose(1, 2).reshape(b * w, h, d)
        x = x + self.col(c, c, c)[0].view(b, w, h, d).transpose(1, 2)
        return self.fc(x.flatten(1, 2).mean(1))


@kind(tokens(8))
class UniversalTransformer(nn.Module):
    """One block, run several times."""

    def __init__(self, d=16):
        super().__init__()
        self.e = nn.Embedding(20, d)
        self.block = nn.TransformerEncoderLayer(d, 4, 24, batch_first=True, norm_first=True, dropout=0.0)
        self.halt, self.out = nn.Linear(d, 1), nn.Linear(d, 5)

    def forward(self, ids):
        x, acc = self.e(ids), 0
        for _ in range(3):
            x = self.block(x)
            acc = acc + torch.sigmoid(self.halt(x)) * x
        return self.out(acc[:, 0, :])


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
        self.ln, self.pw, self.dw, self.bn, self.out = nn.LayerNorm(d), nn.Conv1d(d, 4 * d, 1), nn.Conv1d(2 * d, 2 * d, 5, padding=2, groups=2 * d), nn.BatchNorm1d(2 * d), nn.Conv1d(2 * d, d, 1)

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


@kind(STEPS)
class AdditiveAttention(nn.Module):
    """Bahdanau: pooled by a learnt query."""

    def __init__(self):
        super().__init__()
        self.w, self.u, self.out = nn.Linear(8, 16), nn.Linear(16, 1), nn.Linear(8, 3)

    def forward(self, x):
        a = torch.softmax(self.u(torch.tanh(self.w(x))).squeeze(-1), 1)
        return self.out(torch.bmm(a.unsqueeze(1), x).squeeze(1))


@kind(drawn(2, 40))
class SeparableSound(nn.Module):
    """Conv-TasNet in small: learnt frames, a mask of them, and back."""

    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Conv1d(2, 16, 8, 4, bias=False), nn.ConvTranspose1d(16, 2, 8, 4, bias=False)
        self.gn, self.sep = nn.GroupNorm(1, 16), nn.Sequential(nn.Conv1d(16, 12, 1), nn.PReLU(), nn.Conv1d(12, 12, 3, padding=1, groups=12), nn.PReLU(), nn.Conv1d(12, 16, 1))

    def forward(self, x):
        e = F.relu(self.enc(x))
        return self.dec(e * torch.sigmoid(self.sep(self.gn(e))))
