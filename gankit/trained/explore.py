"""`gankit explore`: a page of this machine alone, on which runs look at one's own pictures and at their data.

Gradio draws the page. What it shows is worked out here and in the modules that the other commands use.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gankit.data.source import Data
from gankit.errors import UserError, in_one_line
from gankit.metrics.features import pixels
from gankit.metrics.neighbours import nearest, reach
from gankit.report.sample_grid import VISIBLE, enlarged, factor, grid
from gankit.report.sheets import draw_inversion, words
from gankit.trained.evaluation import NEIGHBOURS, SIDE
from gankit.trained.latents import invert, no_class, read_pictures
from gankit.trained.memorisation import data_of
from gankit.trained.real_and_generated import FEWEST, Real, generated, open_for
from gankit.trained.sampling import Rebuilt

POINTS = 1000  # real pictures on a map, and samples
HOLES = 24  # pictures shown that no sample is near
SAMPLES = 64  # whose energies stand beside that of a picture
HERE = "127.0.0.1"
# The browser may ask nobody but the page's own server. Gradio's scripts and styles stand in the page itself.
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; form-action 'self'; frame-ancestors 'none'"
SHOWN = ["download", "fullscreen"]  # buttons of a picture; a third one would send it to a hub
HOLE = "covered; below: real pictures that no sample is near, the farthest first"
COLOURS = {"covered": "#2f6fde", "uncovered": "#d1495b", "samples": "#a7adb5"}


@dataclass(frozen=True)
class Modes:
    """Real pictures and samples in the plane of the two directions in which the real ones differ most."""

    real: Tensor  # (n, 2)
    drawn: Tensor  # (n, 2)
    covered: Tensor  # (n,) bool: a sample lies nearer than the picture's fifth neighbour among the real ones
    ceiling: float  # the share that as many other real pictures cover
    holes: Tensor  # (h, C, S, S) in [-1, 1]: pictures that none covers, the farthest first

    def __str__(self) -> str:
        share, n = float(self.covered.double().mean()), len(self.covered)
        return (
            f"{share:.0%} of {n:,} training pictures have one of {n:,} samples near them, where as many other real "
            f"pictures reach {self.ceiling:.0%}. Near: closer than the picture's fifth neighbour among the real ones, "
            f"of pictures averaged to {SIDE}×{SIDE}."
        )


def modes(rebuilt: Rebuilt, data: Data) -> Modes:
    """The map of a run on its data. The axes follow from the real pictures, so runs on the same have the same.

    Raises `UserError` for points, and for too few pictures.
    """
    n = min(POINTS, len(data.train) // 2)
    if len(data.shape) != 3 or n < FEWEST:
        raise UserError(f"{data.name}: a map needs {2 * FEWEST} training pictures, here are {len(data.train)} items")
    train = Real(data.train)
    real, other, drawn = (pixels(some, SIDE) for some in (train[:n], train[n : 2 * n], generated(rebuilt, data, n)))
    radius = reach(real, NEIGHBOURS)
    far = nearest(real, drawn)[0] / radius
    centre = real.mean(0)
    axes = torch.linalg.svd(real - centre, full_matrices=False).Vh[:2]
    axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()  # either sign is right: always the same
    missed = far.argsort(descending=True)[: min(HOLES, int((far > 1).sum()))]
    return Modes(
        (real - centre) @ axes.T,
        (drawn - centre) @ axes.T,
        far <= 1,
        float((nearest(real, other)[0] <= radius).double().mean()),
        train[:n][missed],
    )


def energies(rebuilt: Rebuilt, pictures: Tensor) -> Tensor | None:
    """The model's energy of pictures (n, C, S, S), (n,), or None if its discriminator gives none of one picture."""
    if "discriminator" not in rebuilt.networks or rebuilt.view.together > 1:
        return None
    with torch.no_grad():
        energy = rebuilt.judge(pictures.to(rebuilt.device), no_class(rebuilt, len(pictures))).energy
    return None if energy is None else energy.float().cpu()


def look(rebuilt: Rebuilt, picture: str, sheet: Path) -> str:
    """Draw a picture file, its reconstruction and the nearest G(z) into `sheet`; return their errors and energies."""
    inversion = invert(rebuilt, read_pictures(rebuilt, [picture]))
    lines = draw_inversion(inversion, [Path(picture).name], sheet)
    lines = [*words(inversion, [Path(picture).name]), *lines]
    with rebuilt.stream(0), torch.no_grad():
        samples = rebuilt.generate(rebuilt.latents(SAMPLES), rebuilt.labels(SAMPLES)).clamp(-1, 1).cpu()
    energy = energies(rebuilt, torch.cat([inversion.pictures, inversion.generated, samples]))
    if inversion.reconstructed is None:
        lines.append(f"the discriminator of {rebuilt.model.name!r} gives no reconstruction")
    if energy is None:
        lines.append(f"the discriminator of {rebuilt.model.name!r} gives no energy of one picture")
    else:
        of_samples = energy[2:]
        lines.append(
            f"energy {energy[0]:.4f}, of G(z) {energy[1]:.4f}; {SAMPLES} samples have {of_samples.min():.4f} to "
            f"{of_samples.max():.4f}, mean {of_samples.mean():.4f}"
        )
    return "\n".join(lines)


def figure(found: Modes) -> Any:
    """The map as a Plotly figure."""
    from plotly import graph_objects as go

    groups = {
        "samples": found.drawn,
        "covered": found.real[found.covered],
        "uncovered": found.real[~found.covered],
    }
    figure = go.Figure(
        [
            go.Scatter(
                x=points[:, 0].tolist(),
                y=points[:, 1].tolist(),
                mode="markers",
                name=f"{name} ({len(points):,})",
                marker={"color": COLOURS[name], "size": 4 if name == "samples" else 6, "opacity": 0.7},
            )
            for name, points in groups.items()
        ]
    )
    axis = {"showticklabels": False, "zeroline": False}
    layout = {"margin": {"l": 10, "r": 10, "t": 10, "b": 10}, "legend": {"orientation": "h"}, "height": 420}
    figure.update_layout(template="plotly_white", xaxis=axis, yaxis=axis | {"scaleanchor": "x"}, **layout)
    return figure


def refuse_without_packages() -> None:
    """Raise `UserError` unless the extra gankit[explore] is installed."""
    if find_spec("gradio") is None:
        raise UserError("gankit explore needs gradio: pip install 'gankit[explore]'")


def serve(runs: Sequence[Rebuilt], data: str | None, port: int | None, ready: Callable[[str], None]) -> None:
    """Serve the page of the runs, side by side, on this machine alone until Ctrl-C.

    `data`: in place of each run's own pictures. `ready` receives the address. Raises `UserError` if `port` is taken.
    """
    from threading import Event

    with tempfile.TemporaryDirectory(prefix="gankit-explore-") as folder:
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": folder, "HF_HUB_OFFLINE": "1"}
        page = _page(runs, data, Path(folder))
        quiet: dict[str, Any] = {"quiet": True, "footer_links": [], "ssr_mode": False, "pwa": False, "share": False}
        quiet |= {"mcp_server": False, "enable_monitoring": False, "run_history": False, "inbrowser": False}
        kept = {"max_file_size": "1gb", "app_kwargs": {"middleware": [_only_here()], "docs_url": None}}
        try:
            _, address, _ = page.launch(prevent_thread_lock=True, server_name=HERE, server_port=port, **quiet, **kept)
        except OSError as error:
            raise UserError(f"--port {port or 7860}: {error}; give another one") from None
        try:
            over, before = Event(), signal.getsignal(signal.SIGTERM)
            with suppress(ValueError):  # not in the main thread; else the folder with the pictures would stay
                signal.signal(signal.SIGTERM, lambda *_: over.set())
            ready(address)
            over.wait()
        except KeyboardInterrupt:
            pass
        finally:
            with suppress(ValueError):
                signal.signal(signal.SIGTERM, before)
            page.close(verbose=False)


def _page(runs: Sequence[Rebuilt], data: str | None, folder: Path) -> Any:
    import gradio as gr

    one = {"concurrency_id": "one", "concurrency_limit": 1}  # torch's random stream is one for all
    with gr.Blocks(title="gankit explore", analytics_enabled=False) as page:
        with gr.Tab("A picture of yours"):
            picture = gr.Image(label="picture", type="filepath", image_mode=None, sources=["upload"], height=240)
            button = gr.Button("Look at it", variant="primary")
            with gr.Row():
                for n, rebuilt in enumerate(runs):
                    with gr.Column(min_width=320):
                        sheet = gr.Image(label=_name(rebuilt), interactive=False, type="filepath", buttons=SHOWN)
                        said = gr.Textbox(label="errors are means of values in [-1, 1]", lines=4, interactive=False)
                    button.click(_looks(rebuilt, folder / f"{n}.png"), picture, [sheet, said], **one)
        with gr.Tab("The map of modes"):
            button = gr.Button("Draw the map", variant="primary")
            with gr.Row():
                for rebuilt in runs:
                    with gr.Column(min_width=320):
                        plot = gr.Plot(label=_name(rebuilt))
                        said = gr.Textbox(label=HOLE, lines=3, interactive=False)
                        holes = gr.Image(show_label=False, interactive=False, format="png", buttons=SHOWN)
                    button.click(_maps(rebuilt, data), None, [plot, said, holes], **one)
    return page


def _name(rebuilt: Rebuilt) -> str:
    return f"{rebuilt.run.folder.name}, step {rebuilt.step:,}"


def _looks(rebuilt: Rebuilt, sheet: Path) -> Callable[[str | None], tuple[str | None, str]]:
    def answer(picture: str | None) -> tuple[str | None, str]:
        if picture is None:
            return None, "choose a picture first"
        try:
            return str(sheet), look(rebuilt, picture, sheet)
        except Exception as error:  # a stranger's weights, or too large for the memory: the page stays
            return None, _said(error)

    return answer


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, UserError) else in_one_line(error)


def _maps(rebuilt: Rebuilt, data: str | None) -> Callable[[], tuple[Any, str, Any]]:
    def answer() -> tuple[Any, str, Any]:
        try:
            found = modes(rebuilt, _pictures(rebuilt, data))
            if not len(found.holes):
                return figure(found), str(found), None
            shown = enlarged(found.holes, factor(found.holes.shape[-1], VISIBLE // 2))
            return figure(found), str(found), grid(shown).numpy()
        except Exception as error:
            return None, _said(error), None

    return answer


def _pictures(rebuilt: Rebuilt, data: str | None) -> Data:
    """The run's pictures, from the cache alone: a stranger's config.json can name any folder. Or those of `data`."""
    if len(rebuilt.model.shape) != 3:
        raise UserError(f"{rebuilt.run.folder} makes points, not pictures, and this map is one of pictures")
    if data is not None:
        return open_for(rebuilt, data, rebuilt.catalogue)
    try:
        return data_of(rebuilt.run)
    except Exception:
        raise UserError(f"{rebuilt.run.folder}: its pictures are not in the cache: name them with --data") from None


def _only_here() -> Any:
    """A middleware that tells browsers `POLICY`."""
    from starlette.middleware import Middleware

    class Policy:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def told(message: Any) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
                await send(message)

            await self.app(scope, receive, told)

    return Middleware(Policy)
