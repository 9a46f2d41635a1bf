"""Feature spaces of networks, chosen by what is installed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from gankit.device import choose_device
from gankit.errors import UserError
from gankit.metrics.features import RandomConvolutions

BATCH = 16  # pictures in one pass: on CPUs a layer's output then stays in the cache


@dataclass(frozen=True)
class Space:
    """A function from pictures (N, C, S, S) in [-1, 1] to features (N, D) on the CPU, and its name.

    `version`: all that decides them besides the pictures; with it they may be kept.
    """

    name: str
    features: Callable[[Tensor], Tensor]
    version: str = ""


def deep(channels: int) -> Space:
    """EfficientNet-Lite0's features if its weights are installed and C = 3, else those of random convolutions."""
    from gankit.metrics.efficientnet import SHA256, EfficientNetLite0, weights

    path = weights()
    if path is not None and channels == 3:
        version = f"{SHA256} torch {torch.__version__} {choose_device('auto')}"
        return Space("efficientnet-lite0", _batched(EfficientNetLite0(path)), version)
    return Space("random-convolutions", _batched(RandomConvolutions(channels)))


def inception() -> Space:
    """The Inception features of FID, by torch-fidelity, which downloads the weights at the first use.

    Raises `UserError` where it is not installed, or the download fails.
    """
    if find_spec("torch_fidelity") is None:
        raise UserError("--fid needs torch-fidelity: pip install 'gankit[fid]', or leave --fid out")
    from torch_fidelity.utils import create_feature_extractor

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = create_feature_extractor("inception-v3-compat", ["2048"], cuda=False, verbose=False)
    except Exception as error:  # a download fails in many ways: no network, a proxy, a cut-off file
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"--fid: Inception's weights cannot be had ({type(error).__name__}: {reason}); "
            "connect to a network once, or leave --fid out"
        ) from None

    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, pictures: Tensor) -> Tensor:
            shown = pictures.add(1).mul(127.5).round().clamp(0, 255).byte()
            if shown.shape[1] == 1:
                shown = shown.expand(-1, 3, -1, -1)
            return self.network(shown)[0]

    return Space("inception-v3", _batched(Features()))


def _batched(network: nn.Module) -> Callable[[Tensor], Tensor]:
    device = choose_device("auto")
    network = network.to(device).eval()

    def features(pictures: Tensor) -> Tensor:
        with torch.inference_mode():
            return torch.cat([network(some.to(device)).float().cpu() for some in pictures.split(BATCH)]).clone()

    return features
