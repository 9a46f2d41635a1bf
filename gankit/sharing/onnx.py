"""A run's networks in ONNX, by torch's exporter, compared with PyTorch before anybody gets them.

The latents have an ONNX form too, so that a page without Python draws those of any model: the model's own random
numbers become inputs.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import re
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gankit.errors import UserError, place
from gankit.trained.latents import conditional, told_apart
from gankit.trained.sampling import Rebuilt

OPSET = 18
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
CLOSE = 1e-4  # the largest difference from PyTorch's numbers, for numbers of about 1
COMPARED = 16  # items in that comparison
LARGE = 1024  # numbers in a tensor that is worth halving
Outputs = dict[str, np.ndarray]


@dataclass(frozen=True)
class Latents:
    """The ONNX form of one latent, and how many random numbers it takes: `uniform` in [0, 1), and `normal`."""

    model: bytes
    uniform: int
    normal: int


def refuse_without_packages() -> None:
    """Raise `UserError` unless the extra gankit[share] is installed."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(f"this needs {' and '.join(missing)}: pip install 'gankit[share]'")


def generator(rebuilt: Rebuilt) -> bytes:
    """G in ONNX: `z` (n, N_z), and `label` (n,) int64 if it is told a class -> `picture` (n, *shape), clipped.

    Of a model of points: -> `point` (n, D), as they are.
    """
    with rebuilt.stream(0):
        z = rebuilt.latents(COMPARED)
    labels = _some_classes(rebuilt)
    inputs = {"z": z} | ({"label": labels} if labels is not None and conditional(rebuilt) else {})
    outputs = ["picture" if rebuilt.makes_pictures else "point"]
    drawn = partial(rebuilt.draw, z, labels)
    return _exported(_Generator(rebuilt), inputs, outputs, _Named(rebuilt, "generator"), drawn)


def discriminator(rebuilt: Rebuilt) -> bytes:
    """D in ONNX: `seen` (n, *seen), and `label` if it is told a class -> what it gives of `output`, `code`, `energy`.

    `seen` is what the views of the run make of pictures in [-1, 1], or of points.
    """
    with rebuilt.stream(0):
        seen = torch.rand(COMPARED, *rebuilt.view.shape(rebuilt.model.shape)) * 2 - 1
    labels = _some_classes(rebuilt)

    def judged(items: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        return _Discriminator.given(rebuilt.judge(items, labels))

    def together(labels: Tensor) -> Tensor:
        parts = judged(seen[:1].expand(len(labels), *seen.shape[1:]), labels).values()
        return torch.cat([part.flatten() for part in parts])

    with torch.no_grad():
        outputs = list(judged(seen, labels))
    inputs = {"seen": seen} | ({"label": labels} if labels is not None and told_apart(rebuilt, together) else {})
    named = _Named(rebuilt, "discriminator")
    return _exported(_Discriminator(rebuilt), inputs, outputs, named, lambda: tuple(judged(seen, labels).values()))


def latents(rebuilt: Rebuilt) -> Latents:
    """One latent (1, N_z) in ONNX, from `uniform` (1, a) and `normal` (1, b), one of which may be missing."""
    named = _Named(rebuilt, "latents")
    counted = _Fed(named)
    with rebuilt.stream(0), counted:
        rebuilt.model.latents(1, torch.device("cpu"))
    inputs = {name: _drawn(name, size) for name, size in counted.used.items() if size}
    if not inputs:
        raise UserError(f"{named}: they hold no random number, so every picture is the same")
    drawing = _Latents(rebuilt, named)
    model = _exported(drawing, inputs, ["z"], named, lambda: drawing(**inputs), rows=1)
    return Latents(model, counted.used["uniform"], counted.used["normal"])


def run(model: bytes, **inputs: np.ndarray) -> list[np.ndarray]:
    """The outputs of an ONNX model for the inputs, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


def halved(model: bytes) -> bytes:
    """The same model with its large tensors stored in half precision. It computes in single precision, as before."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    proto = onnx.load_from_string(model)
    kept = []
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < LARGE or np.abs(values).max() > 65_000:
            kept.append(tensor)
            continue
        stored = f"{tensor.name}_stored"
        kept.append(numpy_helper.from_array(values.astype(np.float16), stored))
        proto.graph.node.insert(0, helper.make_node("Cast", [stored], [tensor.name], to=TensorProto.FLOAT))
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return proto.SerializeToString()


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [-1, 1]; infinite for equal ones."""
    error = float(np.square(one.astype(np.float64) - other).mean())
    return math.inf if error == 0 else 10 * math.log10(4 / error)


# What is exported.


class _Generator(nn.Module):
    def __init__(self, rebuilt: Rebuilt) -> None:
        super().__init__()
        self.networks, self.model = nn.ModuleDict(rebuilt.networks), rebuilt.model

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        label = _some_class(self.model, z) if label is None else label
        items = self.model.generate(self.networks, z, label)  # type: ignore[arg-type]
        return items.clamp(-1, 1) if len(self.model.shape) == 3 else items


class _Discriminator(nn.Module):
    def __init__(self, rebuilt: Rebuilt) -> None:
        super().__init__()
        self.networks, self.model = nn.ModuleDict(rebuilt.networks), rebuilt.model

    def forward(self, seen: Tensor, label: Tensor | None = None) -> tuple[Tensor, ...]:
        label = _some_class(self.model, seen) if label is None else label
        return tuple(self.given(self.model.judge(self.networks, seen, label)).values())  # type: ignore[arg-type]

    @staticmethod
    def given(judged: Any) -> dict[str, Tensor]:
        parts = {"output": judged.output, "code": judged.code, "energy": judged.energy}
        return {name: part for name, part in parts.items() if part is not None}


def _some_classes(rebuilt: Rebuilt) -> Tensor | None:
    """Labels from the first class to the last, (COMPARED,), or None without classes."""
    classes = len(rebuilt.model.classes)
    return torch.linspace(0, classes - 1, COMPARED).round().long() if classes else None


def _some_class(model: Any, items: Tensor) -> Tensor | None:
    """Labels for a network that is given some and ignores them."""
    return torch.zeros(items.shape[0], dtype=torch.long) if model.classes else None


class _Latents(nn.Module):
    def __init__(self, rebuilt: Rebuilt, named: _Named) -> None:
        super().__init__()
        self.model, self.named = rebuilt.model, named

    def forward(self, uniform: Tensor | None = None, normal: Tensor | None = None) -> Tensor:
        with _Fed(self.named, uniform, normal):
            return self.model.latents(1, torch.device("cpu"))


class _Fed(TorchFunctionMode):
    """Random calls of torch take the next of the given numbers; without any they draw, and `used` counts them."""

    SHAPED = {"rand": "uniform", "randn": "normal", "rand_like": "uniform", "randn_like": "normal"}
    FILLED = {"uniform_": ("uniform", ("from", 0.0), ("to", 1.0)), "normal_": ("normal", ("mean", 0.0), ("std", 1.0))}
    UNKNOWN = re.compile(r"rand|bernoulli|multinomial|poisson|binomial|dropout|.*_?(exponential|geometric|cauchy)_")

    def __init__(self, named: _Named, uniform: Tensor | None = None, normal: Tensor | None = None) -> None:
        super().__init__()
        self.named, self.given = named, {"uniform": uniform, "normal": normal}
        self.used = {"uniform": 0, "normal": 0}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if name in self.SHAPED:
            kwargs.pop("generator", None)
            like = func(*args, **kwargs)
            return self._next(self.SHAPED[name], like).to(like.dtype)
        if name in self.FILLED:
            kind, *ends = self.FILLED[name]
            values = dict(zip((end for end, _ in ends), args[1:], strict=False)) | kwargs
            a, b = (values.get(end, default) for end, default in ends)
            drawn = self._next(kind, args[0])
            return args[0].copy_(a + drawn * (b - a if kind == "uniform" else b))
        if name == "normal" and isinstance(args[0], Tensor):
            std = args[1] if len(args) > 1 else kwargs.get("std", 1.0)
            return args[0] + self._next("normal", args[0]) * std
        if name == "normal" or self.UNKNOWN.match(name):
            raise UserError(
                f"{self.named}: they are drawn by torch.{name}, which this knows no form of; use torch.rand "
                "or torch.randn"
            )
        return func(*args, **kwargs)

    def _next(self, kind: str, like: Tensor) -> Tensor:
        start, size = self.used[kind], like.numel()
        self.used[kind] += size
        given = self.given[kind]
        part = _drawn(kind, size) if given is None else given[:, start : start + size]
        return part.reshape(like.shape)


def _drawn(kind: str, size: int) -> Tensor:
    """Random numbers (1, size), from torch's stream."""
    with torch._C.DisableTorchFunction():
        return torch.rand(1, size) if kind == "uniform" else torch.randn(1, size)


@dataclass(frozen=True)
class _Named:
    """A part of a run's model, and the plugin that it comes from, for an error."""

    rebuilt: Rebuilt
    part: str

    def __str__(self) -> str:
        config = self.rebuilt.config
        pair = next(iter(config.networks), None) if self.part != "latents" else None
        kind, name = ("networks", pair) if pair else ("models", config.model["name"])
        offered = self.rebuilt.catalogue.kind(kind).get(name)
        plugin = f" of plugin {offered[1][0].name!r}" if offered else ""
        return f"the {self.part} of {'network pair' if pair else 'model'} {name!r}{plugin}"


# By torch's exporter.


def _exported(
    module: nn.Module,
    inputs: dict[str, Tensor],
    outputs: Sequence[str],
    named: _Named,
    drawn: Callable[[], Tensor | tuple[Tensor, ...]],
    rows: int | None = None,
) -> bytes:
    """The module in ONNX, without the names of this machine's files.

    For `inputs` it gives what gankit itself gives in PyTorch, `drawn`, or this raises `UserError`.
    `rows`: the number of rows of all inputs, if it is fixed.
    """
    module.eval()
    shapes = None if rows else {name: {0: torch.export.Dim("n")} for name in inputs}
    with torch.no_grad(), torch.random.fork_rng(devices=[]), _quiet():
        try:
            program = torch.onnx.export(
                module, (), kwargs=inputs, dynamo=True, dynamic_shapes=shapes, opset_version=OPSET, verbose=False,
                input_names=list(inputs), output_names=list(outputs),
            )  # fmt: skip
        except Exception as error:
            raise UserError(_why_not(error, named)) from None
        assert program is not None
        plain = _plain(program.model_proto)
        try:
            model = _folded(plain)
            expected = drawn()
        except Exception as error:
            raise UserError(_why_not(error, named)) from None
    expected = expected if isinstance(expected, tuple) else (expected,)
    _compare(run(model, **{name: value.numpy() for name, value in inputs.items()}), expected, named)
    return model


def _compare(found: Sequence[np.ndarray], expected: Sequence[Tensor], named: _Named) -> None:
    for one, other in zip(found, expected, strict=True):
        scale = max(1.0, float(other.abs().max()))
        difference = float(np.abs(one - other.numpy()).max()) / scale if one.shape == tuple(other.shape) else math.inf
        if not difference <= CLOSE:
            raise UserError(
                f"{named} gives other numbers in ONNX than in PyTorch (difference {difference:.2g} where {CLOSE:g} is "
                "allowed): a network that draws random numbers or looks at its batch has no such form"
            )


def _plain(proto: Any) -> bytes:
    """The model without comments: torch's hold the paths of source files."""
    proto.doc_string, proto.producer_name = "", "gankit"
    parts = [proto, proto.graph, *proto.graph.node, *proto.graph.initializer, *proto.graph.value_info]
    parts += [*proto.graph.input, *proto.graph.output, *proto.functions]
    for part in parts:
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    del proto.graph.value_info[:]
    return proto.SerializeToString()


def _folded(model: bytes) -> bytes:
    """What needs no input is computed once and for all; only operators of the standard are left."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        proto = onnx.load(options.optimized_model_filepath)
    used = {node.domain for node in proto.graph.node}
    for known in [known for known in proto.opset_import if known.domain not in used]:
        proto.opset_import.remove(known)
    return proto.SerializeToString()


def _why_not(error: BaseException, named: _Named) -> str:
    """Why a part has no ONNX form: the operator if one is to blame, else the error and its place."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    own = next((one for one in chain if isinstance(one, UserError)), None)
    if own:
        return str(own)
    text = "\n".join(str(one) for one in chain)
    operator = re.search(r"OpOverload\(op='([^']+)'", text) or re.search(r"implementation for (\w+)\(", text)
    if operator:
        return f"{named} uses {operator[1]}, an operator that ONNX lacks, so it can be neither shared nor exported"
    last = chain[-1]
    words = " ".join(re.sub(r"\x1b\[\d*m", "", str(last)).split())[:300]
    where = place(last)
    return f"{named} has no ONNX form: {type(last).__name__}: {words}{f' ({where})' if where else ''}"


@contextlib.contextmanager
def _quiet() -> Any:
    """Without the progress and the warnings of torch's exporter."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
