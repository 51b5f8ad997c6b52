"""Networks of images that give maps, or gate them, as strangers write them."""

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
class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.d1, self.d2, self.mid = cbr(3, 8), cbr(8, 16), cbr(16, 24)
        self.up2 = nn.ConvTranspose2d(24, 16, 2, 2)
        self.u2 = cbr(32, 16)
        self.up1 = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.u1 = cbr(24, 8)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        a = self.d1(x)
        b = self.d2(F.max_pool2d(a, 2))
        c = self.mid(F.max_pool2d(b, 2))
        y = self.u2(torch.cat([self.up2(c), b], 1))
        y = self.u1(torch.cat([self.up1(y), a], 1))
        return self.out(y)


@kind(IMAGE)
class CrossStage(nn.Module):
    """CSP: half of the channels pass by."""

    def __init__(self):
        super().__init__()
        self.stem = cbr(3, 16)
        self.left, self.right = cbr(16, 8, 1), cbr(16, 8, 1)
        self.m = nn.Sequential(cbr(8, 8), cbr(8, 8))
        self.join = cbr(16, 12, 1, act=nn.SiLU)
        self.pred = nn.Conv2d(12, 3 * 7, 1)

    def forward(self, x):
        x = self.stem(x)
        r = self.right(x)
        y = self.join(torch.cat((self.left(x), r + self.m(r)), 1))
        p = self.pred(y)
        bs, _, ny, nx = p.shape
        return p.view(bs, 3, 7, ny, nx).permute(0, 1, 3, 4, 2).contiguous()


@kind(IMAGE)
class Pyramid(nn.Module):
    """FPN with one head for all levels, and two outputs of it."""

    def __init__(self):
        super().__init__()
        self.c2, self.c3, self.c4 = cbr(3, 8, 3, 2), cbr(8, 16, 3, 2), cbr(16, 24, 3, 2)
        self.lateral = nn.ModuleList([nn.Conv2d(c, 12, 1) for c in (8, 16, 24)])
        self.smooth = nn.ModuleList([nn.Conv2d(12, 12, 3, padding=1) for _ in range(3)])
        self.tower = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1), nn.GroupNorm(4, 12), nn.ReLU())
        self.cls, self.box = nn.Conv2d(12, 5, 3, padding=1), nn.Conv2d(12, 4, 3, padding=1)

    def forward(self, x):
        feats = [self.c2(x)]
        feats.append(self.c3(feats[-1]))
        feats.append(self.c4(feats[-1]))
        p = [l(f) for l, f in zip(self.lateral, feats)]
        for i in (1, 0):
            p[i] = p[i] + F.interpolate(p[i + 1], scale_factor=2, mode="nearest")
        outs = [self.tower(s(f)) for s, f in zip(self.smooth, p)]
        return {"cls": [self.cls(o) for o in outs], "box": [self.box(o).exp() for o in outs]}


@kind(IMAGE)
class Segmenter(nn.Module):
    """Dilated convolutions at several rates (ASPP), pooled context spread over the map."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(cbr(3, 8, 3, 2), cbr(8, 16))
        self.rates = nn.ModuleList([nn.Conv2d(16, 8, 3, padding=r, dilation=r) for r in (1, 2, 3)])
        self.image = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 8, 1), nn.ReLU())
        self.project = cbr(32, 12, 1)
        self.classifier = nn.Conv2d(12, 4, 1)

    def forward(self, x):
        size = x.shape[-2:]
        f = self.backbone(x)
        pool = F.interpolate(self.image(f), size=f.shape[-2:], mode="bilinear", align_corners=False)
        y = self.project(torch.cat([F.relu(r(f)) for r in self.rates] + [pool], 1))
        return F.interpolate(self.classifier(y), size=size, mode="bilinear", align_corners=False)


@kind(IMAGE)
class PixelShuffleUpscaler(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 5, padding=2), nn.Conv2d(16, 12, 3, padding=1)
        self.c = nn.Conv2d(12, 3 * 4, 3, padding=1)
        self.up = nn.PixelShuffle(2)

    def forward(self, x):
        return self.up(self.c(torch.tanh(self.b(torch.tanh(self.a(x))))))


@kind(IMAGE)
class PixelShuffleInside(nn.Module):
    def __init__(self):
        super().__init__()
        self.head, self.expand, self.tail = (
            nn.Conv2d(3, 8, 3, 1, 1),
            nn.Conv2d(8, 32, 3, 1, 1),
            nn.Conv2d(8, 3, 3, 1, 1),
        )
        self.act = nn.PReLU(8)

    def forward(self, x):
        h = self.act(self.head(x))
        return self.tail(F.relu(F.pixel_shuffle(self.expand(h), 2)))


@kind(IMAGE)
class CoordGate(nn.Module):
    """Coordinate attention: pooled along each side, joined, split by literal sizes."""

    def __init__(self):
        super().__init__()
        self.stem = cbr(3, 16)
        self.mix = cbr(16, 8, 1, act=nn.Hardswish)
        self.h, self.w = nn.Conv2d(8, 16, 1), nn.Conv2d(8, 16, 1)
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        x = self.stem(x)
        n, c, h, w = x.size()
        xh = x.mean(3, keepdim=True)
        xw = x.mean(2, keepdim=True).permute(0, 1, 3, 2)
        y = self.mix(torch.cat([xh, xw], dim=2))
        xh, xw = torch.split(y, [h, w], dim=2)
        x = x * self.h(xh).sigmoid() * self.w(xw.permute(0, 1, 3, 2)).sigmoid()
        return self.fc(x.amax((2, 3)))


@kind(IMAGE)
class SpatialGate(nn.Module):
    """CBAM: channels by their mean and maximum, places by the mean and maximum of channels."""

    def __init__(self):
        super().__init__()
        self.stem = cbr(3, 16)
        self.mlp = nn.Sequential(nn.Conv2d(16, 4, 1, bias=False), nn.ReLU(), nn.Conv2d(4, 16, 1, bias=False))
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)
        self.last = nn.Conv2d(16, 10, 3)
        self.fc = nn.Linear(10, 5)

    def forward(self, x):
        x = self.stem(x)
        x = x * torch.sigmoid(self.mlp(F.adaptive_avg_pool2d(x, 1)) + self.mlp(F.adaptive_max_pool2d(x, 1)))
        y = self.last(x)
        m = torch.cat([y.mean(1, keepdim=True), y.max(1, keepdim=True)[0]], 1)
        return self.fc((y * torch.sigmoid(self.spatial(m))).mean((2, 3)))


@kind(IMAGE)
class SelectiveKernel(nn.Module):
    def __init__(self):
        super().__init__()
        self.k3, self.k5 = cbr(3, 12, 3), cbr(3, 12, 5)
        self.z = nn.Linear(12, 6)
        self.sel = nn.ModuleList([nn.Linear(6, 12), nn.Linear(6, 12)])
        self.fc = nn.Linear(12, 5)

    def forward(self, x):
        feats = torch.stack([self.k3(x), self.k5(x)], 1)
        z = F.relu(self.z(feats.sum(1).mean((-1, -2))))
        w = torch.stack([f(z) for f in self.sel], 1).softmax(1)
        return self.fc((feats * w[..., None, None]).sum(1).mean((-1, -2)))


@kind(IMAGE)
class RepVgg(nn.Module):
    def __init__(self):
        super().__init__()
        self.c3, self.c1 = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(3, 16, 1)
        self.d3, self.d1, self.bn = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16)
        self.linear = nn.Linear(16, 5)

    def forward(self, x):
        x = F.relu(self.c3(x) + self.c1(x))
        x = F.relu(self.d3(x).add_(self.d1(x)).add_(self.bn(x)))
        return self.linear(x.view(x.size(0), x.size(1), -1).mean(2))


@kind(IMAGE)
class FourierConv(nn.Module):
    """Mixed in the frequencies of a map."""

    def __init__(self):
        super().__init__()
        self.i, self.o = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 5, 1)
        self.weight = nn.Parameter(torch.randn(12, 16, 9, 2) * 0.1)

    def forward(self, x):
        x = self.i(x)
        f = torch.fft.rfft2(x, norm="ortho") * torch.view_as_complex(self.weight)
        return self.o(x + torch.fft.irfft2(f, s=x.shape[-2:], norm="ortho")).mean((2, 3))


@kind(IMAGE)
class InstanceStyle(nn.Module):
    """Style transfer: mirrored edges, instance norms, nearest upsampling."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.ReflectionPad2d(2),
            nn.Conv2d(3, 8, 5),
            nn.InstanceNorm2d(8, affine=True),
            nn.ReLU(),
            nn.Conv2d(8, 12, 3, 2, 1),
            nn.InstanceNorm2d(12, affine=True),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.ReflectionPad2d(1),
            nn.Conv2d(12, 8, 3),
            nn.InstanceNorm2d(8),
            nn.LeakyReLU(0.1),
            nn.Conv2d(8, 3, 1),
            nn.Tanh(),
        )

    def forward(self, x):
        return self.net(x)
