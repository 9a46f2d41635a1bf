"""`gankit share`: one HTML file with the generator in it, which draws new pictures without server, network or Python.

ONNX Runtime Web, its WebAssembly and the generator's ONNX form lie in the page as compressed base64, because a page
from disk can load neither a worker nor a further file.
"""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from gankit import report
from gankit.errors import UserError
from gankit.files import refuse_foreign, replacing
from gankit.report.page import digest
from gankit.report.story import read
from gankit.runs.folder import RunFolder
from gankit.sharing import onnx
from gankit.sharing.directions import directions
from gankit.sharing.facts import Facts, facts
from gankit.trained.latents import conditional
from gankit.trained.sampling import Rebuilt, rebuild

HERE, REPORT = Path(__file__).parent, Path(report.__file__).parent
RUNTIME = HERE / "runtime"  # README.md there says where it comes from
OURS = '<meta name="generator" content="gankit share">'
GRID = 24  # pictures that the page draws at a time
INVISIBLE = 60.0  # dB: rounding to the 256 levels of a screen leaves 59


@dataclass(frozen=True)
class Shared:
    """A page that was written."""

    path: Path
    size: int  # bytes
    psnr: float | None  # dB, between half precision and single; None in single precision


def write_shared(
    run: RunFolder,
    path: Path | None = None,
    step: int | Literal["best"] | None = None,
    plugins: Sequence[str] = (),
    credit: str | None = None,
    full: bool = False,
) -> Shared:
    """Write the page of a run's averaged generator at `step`, by default the last. Raises `UserError` if it cannot.

    `path`: an .html file, by default share.html in the run.
    `credit`: a line on who made the real pictures. `full`: weights in single precision; else in half, unless a screen
    would show the difference.
    """
    path = path or run.folder / "share.html"
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--out {path}: the name must end in .html")
    onnx.refuse_without_packages()
    refuse_foreign(path, OURS, "`gankit share`")
    rebuilt = rebuild(run, step, plugins)
    _refuse_others(rebuilt)
    generator, latents, found = onnx.generator(rebuilt), onnx.latents(rebuilt), directions(rebuilt)
    halved = onnx.halved(generator)
    classes = list(rebuilt.model.classes) if conditional(rebuilt) else []
    psnr = _difference(rebuilt, generator, halved, bool(classes))
    half = not full and psnr >= INVISIBLE
    story = read(run)
    said = facts(story, rebuilt, credit)
    about = {
        "name": said.name,
        "shape": list(rebuilt.model.shape),
        "grid": GRID,
        "uniform": latents.uniform,
        "normal": latents.normal,
        "steps": _rounded(found.steps),
        "low": _rounded(found.low),
        "high": _rounded(found.high),
        "classes": classes,
    }
    parts = {
        "wasm": _text((RUNTIME / "ort-wasm-simd-threaded.wasm.gz").read_bytes()),
        "generator": _text(gzip.compress(halved if half else generator, 9, mtime=0)),
        "latents": _text(gzip.compress(latents.model, 9, mtime=0)),
    }
    size = _write(path, about, said, parts)
    return Shared(path, size, psnr if half else None)


def _refuse_others(rebuilt: Rebuilt) -> None:
    """Raise `UserError` unless the run draws pictures in grey or colour."""
    shape = rebuilt.model.shape
    if len(shape) != 3 or shape[0] not in (1, 3):
        what = "points" if len(shape) == 1 else f"items of shape {shape}"
        raise UserError(f"{rebuilt.run.folder} makes {what}: a page needs pictures in grey or colour")


def _difference(rebuilt: Rebuilt, one: bytes, other: bytes, told: bool) -> float:
    """PSNR in dB between 64 pictures of two ONNX forms of the generator, which may be told a class."""
    with rebuilt.stream(3):
        inputs = {"z": rebuilt.latents(64).numpy()}
    labels = rebuilt.labels(64)
    if labels is not None and told:
        inputs["label"] = labels.numpy()
    return onnx.psnr(onnx.run(one, **inputs)[0], onnx.run(other, **inputs)[0])


def _rounded(values: Any) -> Any:
    return [_rounded(one) for one in values] if values.ndim else float(f"{float(values):.6g}")


def _text(content: bytes) -> Markup:
    return Markup(base64.b64encode(content).decode())


def _write(path: Path, about: dict[str, Any], said: Facts, parts: dict[str, Markup]) -> int:
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined)
    style = "".join(path.read_text(encoding="utf-8") for path in (REPORT / "report.css", HERE / "page.css"))
    script = runtime() + (HERE / "page.js").read_text(encoding="utf-8")
    # WebAssembly needs a word of its own; nothing else may run, be fetched or be sent.
    policy = (
        f"default-src 'none'; img-src data: blob:; style-src {digest(style)}; "
        f"script-src {digest(script)} 'wasm-unsafe-eval'; base-uri 'none'; form-action 'none'"
    )
    page = environment.get_template("page.html.j2").render(
        about=about,
        facts=said,
        parts=parts,
        policy=policy,
        style=Markup(style),
        script=Markup(script),
        licence=(RUNTIME / "LICENSE").read_text(encoding="utf-8"),
    )
    with replacing(path, folders=True) as beside:
        beside.write_text(page, encoding="utf-8", errors="replace")
        return beside.stat().st_size


def runtime() -> str:
    """ONNX Runtime Web as the beginning of a script, which then has `ort`: its exports become that constant."""
    text = (RUNTIME / "ort.wasm.bundle.min.mjs").read_text(encoding="utf-8")
    text = re.sub(r"//# sourceMappingURL=\S+\s*$", "", text)
    assert "</script" not in text.lower()
    exports = re.search(r"export\{([^}]+)\};?\s*$", text)
    assert exports is not None
    pairs = [pair.split(" as ") for pair in exports[1].split(",")]
    # In Firefox a page from disk has the origin "null", and the runtime fails to resolve its own address against that.
    # It needs none: it loads nothing.
    text = text[: exports.start()].replace("import.meta.url", '"https://page.invalid/"')
    return text + "const ort={" + ",".join(f"{name}:{own}" for own, name in pairs) + "};\n"
