"""Attention in all its spellings, as strangers write it."""

from __future__ import annotations

# ruff: noqa
# The code of strangers is as it is.
import math

import torch
import torch.nn.functional as F
from torch import nn

from foreign.kinds import drawn, kind, pair, tokens

STEPS = drawn(12, 8)


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
        self.to_q, self.to_kv, self.to_out = (
            nn.Linear(d, d, bias=False),
            nn.Linear(12, 2 * d, bias=False),
            nn.Linear(d, d),
        )

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
        self.wq, self.wk, self.wv, self.wo = (
            nn.Linear(d, d, bias=False),
            nn.Linear(d, kv * 8, bias=False),
            nn.Linear(d, kv * 8, bias=False),
            nn.Linear(d, d, bias=False),
        )
        self.w1, self.w2, self.w3 = (
            nn.Linear(d, 48, bias=False),
            nn.Linear(48, d, bias=False),
            nn.Linear(d, 48, bias=False),
        )
        f = torch.outer(torch.arange(16.0), 1 / 10000 ** (torch.arange(0, 8, 2) / 8))
        self.register_buffer("cos", torch.cat([f, f], -1).cos(), persistent=False)
        self.register_buffer("sin", torch.cat([f, f], -1).sin(), persistent=False)

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
        self.q, self.k, self.v, self.o = (
            nn.Linear(d, inner, bias=False),
            nn.Linear(d, inner, bias=False),
            nn.Linear(d, inner, bias=False),
            nn.Linear(inner, d, bias=False),
        )
        self.bias = nn.Embedding(23, h)
        self.wi0, self.wi1, self.wo = (
            nn.Linear(d, 20, bias=False),
            nn.Linear(d, 20, bias=False),
            nn.Linear(20, d, bias=False),
        )

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
        self.row, self.col = (
            nn.MultiheadAttention(d, 2, batch_first=True),
            nn.MultiheadAttention(d, 2, batch_first=True),
        )
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


@kind(STEPS)
class AdditiveAttention(nn.Module):
    """Bahdanau: pooled by a learnt query."""

    def __init__(self):
        super().__init__()
        self.w, self.u, self.out = nn.Linear(8, 16), nn.Linear(16, 1), nn.Linear(8, 3)

    def forward(self, x):
        a = torch.softmax(self.u(torch.tanh(self.w(x))).squeeze(-1), 1)
        return self.out(torch.bmm(a.unsqueeze(1), x).squeeze(1))
