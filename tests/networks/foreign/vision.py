"""Networks of images, as strangers write them: each in a style of its own, none of it made for this project."""

from __future__ import annotations

# ruff: noqa
# The code of strangers is as it is.
import torch
import torch.nn.functional as F
from torch import nn

from foreign.kinds import drawn, kind

IMAGE = drawn(3, 16, 16)


def cbr(i, o, k=3, s=1, g=1, act=nn.ReLU):
    return nn.Sequential(nn.Conv2d(i, o, k, s, k // 2, groups=g, bias=False), nn.BatchNorm2d(o), act())


@kind(IMAGE)
class Inception(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = cbr(3, 12)
        self.b1 = cbr(12, 6, 1)
        self.b2 = nn.Sequential(cbr(12, 8, 1), cbr(8, 10, 3))
        self.b3 = nn.Sequential(cbr(12, 4, 1), cbr(4, 6, 5))
        self.b4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), cbr(12, 6, 1))
        self.fc = nn.Linear(28, 5)

    def forward(self, x):
        x = self.stem(x)
        x = torch.cat([self.b1(x), self.b2(x), self.b3(x), self.b4(x)], 1)
        return self.fc(x.mean([2, 3]))


@kind(IMAGE)
class SqueezeExcite(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = cbr(3, 16), cbr(16, 16)
        self.down, self.up = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        self.out = nn.Linear(16, 7)

    def forward(self, x):
        x = self.b(self.a(x))
        s = F.adaptive_avg_pool2d(x, 1)
        x = x * torch.sigmoid(self.up(F.relu(self.down(s))))
        return self.out(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


@kind(IMAGE)
class SqueezeExciteLinear(nn.Module):
    """Gates by linear layers and a view, as most copies have it."""

    def __init__(self):
        super().__init__()
        self.conv = cbr(3, 16)
        self.fc = nn.Sequential(nn.Linear(16, 4), nn.ReLU(True), nn.Linear(4, 16), nn.Sigmoid())
        self.head = nn.Conv2d(16, 5, 1)

    def forward(self, x):
        x = self.conv(x)
        b, c, _, _ = x.size()
        y = F.avg_pool2d(x, x.shape[2:]).view(b, c)
        y = self.fc(y).view(b, c, 1, 1)
        return self.head(x * y.expand_as(x)).mean(-1).mean(-1)


@kind(IMAGE)
class Mobile(nn.Module):
    def __init__(self):
        super().__init__()

        def ir(i, o, s, t):
            return nn.Sequential(
                cbr(i, i * t, 1, act=nn.ReLU6),
                cbr(i * t, i * t, 3, s, i * t, nn.ReLU6),
                nn.Conv2d(i * t, o, 1, bias=False),
                nn.BatchNorm2d(o),
            )

        self.first = cbr(3, 8, 3, 2, act=nn.Hardswish)
        self.blocks = nn.ModuleList([ir(8, 8, 1, 2), ir(8, 12, 2, 3), ir(12, 12, 1, 3)])
        self.cls = nn.Sequential(nn.Dropout(0.2), nn.Linear(12, 5))

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            y = block(x)
            x = x + y if x.shape == y.shape else y
        return self.cls(F.adaptive_avg_pool2d(x, (1, 1)).squeeze(3).squeeze(2))


@kind(IMAGE)
class Shuffle(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = cbr(3, 16, 3, 2)
        self.branch = nn.Sequential(
            cbr(8, 8, 1), nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False), nn.BatchNorm2d(8), cbr(8, 8, 1)
        )
        self.last = cbr(16, 24, 1)
        self.fc = nn.Linear(24, 5)

    def forward(self, x):
        x = self.stem(x)
        a, b = x.chunk(2, dim=1)
        x = torch.cat((a, self.branch(b)), dim=1)
        n, c, h, w = x.size()
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)
        return self.fc(self.last(x).mean(dim=(2, 3)))


@kind(IMAGE)
class ConvNeXtish(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.patch = nn.Conv2d(3, dim, 4, 4)
        self.dw = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.ln = nn.LayerNorm(dim, eps=1e-6)
        self.pw1, self.pw2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(1e-6 * torch.ones(dim))
        self.head = nn.Linear(dim, 5)

    def forward(self, x):
        x = self.patch(x)
        y = self.dw(x).permute(0, 2, 3, 1)
        y = self.gamma * self.pw2(F.gelu(self.pw1(self.ln(y))))
        x = x + y.permute(0, 3, 1, 2)
        return self.head(x.mean([-2, -1]))


@kind(IMAGE)
class Ghost(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = cbr(3, 12)
        self.primary = cbr(12, 8, 1)
        self.cheap = cbr(8, 8, 3, g=8)
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        one = self.primary(self.stem(x))
        out = torch.cat([one, self.cheap(one)], dim=1)
        return self.fc(out[:, :16].mean((2, 3)))


@kind(IMAGE)
class Res2Net(nn.Module):
    def __init__(self, width=6, scale=4):
        super().__init__()
        self.width, self.scale = width, scale
        self.conv1 = cbr(3, width * scale, 1)
        self.convs = nn.ModuleList([cbr(width, width) for _ in range(scale - 1)])
        self.conv3 = cbr(width * scale, 20, 1)
        self.fc = nn.Linear(20, 5)

    def forward(self, x):
        spx = torch.split(self.conv1(x), self.width, 1)
        out = []
        for i, conv in enumerate(self.convs):
            sp = spx[i] if i == 0 else sp + spx[i]  # noqa: F821
            sp = conv(sp)
            out.append(sp)
        out.append(spx[self.scale - 1])
        return self.fc(self.conv3(torch.cat(out, 1)).mean((2, 3)))


@kind(IMAGE)
class Dense(nn.Module):
    def __init__(self, growth=6):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.layers = nn.ModuleList()
        c = 12
        for _ in range(3):
            self.layers.append(nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(), nn.Conv2d(c, growth, 3, padding=1)))
            c += growth
        self.final = nn.BatchNorm2d(c)
        self.fc = nn.Linear(c, 5)

    def forward(self, x):
        features = [self.stem(x)]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        return self.fc(F.relu(self.final(torch.cat(features, 1))).mean((2, 3)))


@kind(IMAGE)
class ResNeXtish(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = cbr(3, 16)
        self.a, self.b, self.c = cbr(16, 16, 1), cbr(16, 16, 3, g=4), nn.Conv2d(16, 16, 1)
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        x = self.stem(x)
        x = torch.relu_(x + self.c(self.b(self.a(x))))
        return self.fc(x.flatten(2).mean(-1))


@kind(IMAGE)
class PatchTransformer(nn.Module):
    def __init__(self, d=24, h=3):
        super().__init__()
        self.h = h
        self.proj = nn.Conv2d(3, d, 4, 4)
        self.cls = nn.Parameter(torch.zeros(1, 1, d))
        self.pos = nn.Parameter(torch.zeros(1, 17, d))
        self.n1, self.n2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Dropout(0.1), nn.Linear(4 * d, d))
        self.head = nn.Linear(d, 5)

    def forward(self, x):
        B = x.shape[0]
        x = self.proj(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls.expand(B, -1, -1), x), 1) + self.pos
        B, N, C = x.shape
        qkv = self.qkv(self.n1(x)).reshape(B, N, 3, self.h, C // self.h).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        attn = ((q @ k.transpose(-2, -1)) * (C // self.h) ** -0.5).softmax(dim=-1)
        x = x + self.out((attn @ v).transpose(1, 2).reshape(B, N, -1))
        x = x + self.mlp(self.n2(x))
        return self.head(x[:, 0])


@kind(IMAGE)
class SwinWindows(nn.Module):
    def __init__(self, d=16, heads=4, w=4):
        super().__init__()
        self.heads, self.w = heads, w
        self.embed = nn.Conv2d(3, d, 2, 2)
        self.norm, self.qkv, self.proj = nn.LayerNorm(d), nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.table = nn.Parameter(torch.randn((2 * w - 1) ** 2, heads) * 0.02)
        i = torch.stack(torch.meshgrid(torch.arange(w), torch.arange(w), indexing="ij")).flatten(1)
        r = (i[:, :, None] - i[:, None, :]).permute(1, 2, 0) + w - 1
        self.register_buffer("index", r[..., 0] * (2 * w - 1) + r[..., 1])
        self.merge = nn.Linear(4 * d, 2 * d, bias=False)
        self.fc = nn.Linear(2 * d, 5)

    def forward(self, x):
        x = self.embed(x).permute(0, 2, 3, 1)
        B, H, W, C = x.shape
        y = torch.roll(self.norm(x), shifts=(-2, -2), dims=(1, 2))
        y = y.view(B, H // self.w, self.w, W // self.w, self.w, C).permute(0, 1, 3, 2, 4, 5).reshape(-1, self.w**2, C)
        q, k, v = self.qkv(y).reshape(y.shape[0], self.w**2, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.table[self.index.view(-1)].view(self.w**2, self.w**2, -1).permute(2, 0, 1)
        a = (q @ k.transpose(-2, -1) * 4**-0.5 + bias.unsqueeze(0)).softmax(-1)
        y = self.proj((a @ v).transpose(1, 2).flatten(2))
        y = y.view(B, H // self.w, W // self.w, self.w, self.w, C).permute(0, 1, 3, 2, 4, 5).reshape(B, H, W, C)
        x = x + torch.roll(y, shifts=(2, 2), dims=(1, 2))
        x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1)
        return self.fc(self.merge(x).mean((1, 2)))


@kind(IMAGE)
class Mixer(nn.Module):
    def __init__(self, d=16, t=16):
        super().__init__()
        self.patch = nn.Conv2d(3, d, 4, 4)
        self.n1, self.n2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.tok = nn.Sequential(nn.Linear(t, 24), nn.GELU(), nn.Linear(24, t))
        self.ch = nn.Sequential(nn.Linear(d, 40), nn.GELU(), nn.Linear(40, d))
        self.fc = nn.Linear(d, 5)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = x + self.tok(self.n1(x).transpose(1, 2)).transpose(1, 2)
        return self.fc((x + self.ch(self.n2(x))).mean(1))


@kind(IMAGE)
class ConvMixer(nn.Module):
    def __init__(self, d=12):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, d, 2, 2),
            nn.GELU(),
            nn.BatchNorm2d(d),
            nn.Conv2d(d, d, 5, groups=d, padding="same"),
            nn.GELU(),
            nn.BatchNorm2d(d),
            nn.Conv2d(d, 20, 1),
            nn.GELU(),
            nn.BatchNorm2d(20),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
            nn.Linear(20, 5),
        )

    def forward(self, x):
        return self.net(x)


@kind(IMAGE)
class EarlyExits(nn.Module):
    def __init__(self):
        super().__init__()
        self.s1, self.s2, self.s3 = cbr(3, 8), cbr(8, 16, 3, 2), cbr(16, 24, 3, 2)
        self.e1, self.e2, self.e3 = nn.Linear(8, 5), nn.Linear(16, 5), nn.Linear(24, 5)

    def forward(self, x):
        outs = []
        for stage, exit in ((self.s1, self.e1), (self.s2, self.e2), (self.s3, self.e3)):
            x = stage(x)
            outs.append(exit(x.mean((2, 3))))
        return tuple(outs)


@kind(IMAGE)
class Maxout(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 24, 3, padding=1)
        self.lin = nn.Linear(12, 16)
        self.out = nn.Linear(8, 5)

    def forward(self, x):
        a, b = torch.chunk(self.conv(x), 2, 1)
        x = torch.max(a, b).mean((2, 3))
        x = self.lin(x)
        x = torch.maximum(x[:, :8], x[:, 8:])
        return self.out(x)


@kind(IMAGE)
class Capsule(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.prim = nn.Conv2d(3, 12, 5, 2), nn.Conv2d(12, 16, 3, 2)
        self.W = nn.Parameter(torch.randn(1, 16, 5, 6, 4) * 0.1)

    def forward(self, x):
        u = self.prim(F.relu(self.conv(x)))
        u = u.view(x.size(0), -1, 4)
        n = (u**2).sum(-1, keepdim=True)
        u = n / (1 + n) * u / torch.sqrt(n + 1e-8)
        hat = (self.W @ u[:, :, None, :, None]).squeeze(-1)
        b = torch.zeros_like(hat[..., :1])
        for _ in range(2):
            c = b.softmax(2)
            v = (c * hat).sum(1)
            b = b + (hat * v.unsqueeze(1)).sum(-1, keepdim=True)
        return v.norm(dim=-1)


@kind(IMAGE)
class FlatClassifier(nn.Module):
    """LeNet: the map is laid out before the linear layers, by a number that is written down once."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 3)
        self.fc1, self.fc2 = nn.Linear(16 * 4, 20), nn.Linear(20, 5)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = torch.flatten(x, 1)
        return F.log_softmax(self.fc2(F.relu(self.fc1(x))), dim=1)
