"""Animates the samples of a run, and writes any animation as GIF or MP4."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gankit.errors import UserError
from gankit.files import MARK, refuse_foreign, replacing
from gankit.report.story import evenly, picture
from gankit.runs.folder import RunFolder

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

WIDTH = 512  # minimum width in pixels
HOLD = 2.0  # extra seconds of the last frame
PIXELS = 1 << 27  # of all frames together, before they are enlarged: 0.4 GB
LONGEST = 0.5  # seconds per frame at most: three samples must not become a slide show
COUNTED = 1 << 24  # pixels, at most, whose colours choose the palette
BAR, INK = (28, 31, 35), (240, 240, 238)  # colours of the caption's ground and letters
SHADES = 16  # shades between the two colours


def animate(
    run: RunFolder,
    path: Path | None = None,
    frames: int = 120,
    seconds: float = 12.0,
    scale: int | None = None,
    smooth: bool = False,
) -> Path:
    """Make a looping GIF or MP4 of a run's samples, by the suffix of `path` (RUN/animation.gif by default).

    At most `frames` samples, evenly in training steps, in `seconds`; the last one stays two seconds longer.
    The grids are `scale` times as large, by default at least WIDTH pixels wide, in sharp squares or `smooth`.
    Returns the path. Raises UserError if the run has no samples, for another suffix, for a file that gankit did not
    draw, for `frames` or `seconds` out of range, and for an MP4 without imageio-ffmpeg.
    """
    path = Path(path) if path else run.animation_path
    refuse_name(path)
    if path != run.animation_path:
        refuse_foreign(path)
    if frames < 1 or not seconds > 0:
        raise UserError(f"an animation needs at least 1 frame and more than 0 seconds, not {frames} and {seconds}")
    pictures = _pictures(run, frames)
    if not pictures and run.samples():
        raise UserError(f"{run.folder} has no samples that can be read: they are damaged, or too large")
    if not pictures:
        raise UserError(f"{run.folder} has no samples yet: animate it once the first grids are in its samples/")
    if path != run.animation_path:
        path.parent.mkdir(parents=True, exist_ok=True)
    scale = scale or -(-WIDTH // pictures[-1][1].shape[1])
    pause = min(seconds / len(pictures), LONGEST)
    steps = [step for step, _ in pictures]
    write_film(
        path,
        [_smooth(picture, scale) if smooth else picture for _, picture in pictures],
        pause,
        hold=HOLD,
        bar=lambda n, width: _caption(steps[n], steps[-1], width),
        background=background(run),
        scale=1 if smooth else scale,
    )
    return path


def refuse_name(path: Path) -> None:
    """Raise UserError unless the suffix is .gif, or .mp4 with imageio-ffmpeg installed."""
    suffix = path.suffix.lower()
    if suffix not in (".gif", ".mp4"):
        raise UserError(f"{path} is neither a .gif nor an .mp4: give the animation a name that ends in one of them")
    if suffix == ".mp4" and find_spec("imageio_ffmpeg") is None:
        raise UserError(f"{path} needs ffmpeg: `pip install imageio-ffmpeg`, or give a name that ends in .gif")


Bar = Callable[[int, int], "np.ndarray"]  # (number of the picture, width) -> shades from 0 to SHADES − 1


def write_film(
    path: Path,
    pictures: list[np.ndarray],
    pause: float,
    hold: float = 0.0,
    bar: Bar | None = None,
    background: Sequence[np.ndarray] = (),
    scale: int = 1,
) -> None:
    """Write uint8 pictures (height, width, 3) of one size as a looping GIF or an MP4, whole or not at all.

    `pause` seconds each, the last one `hold` seconds longer; `bar` is drawn below. A `background` colour stays exact.
    Each pixel becomes a square of `scale` pixels.
    """
    with replacing(path) as beside:
        if path.suffix.lower() == ".gif":
            _write_gif(beside, pictures, pause, hold, bar, background, scale)
        else:
            _write_mp4(beside, pictures, pause, hold, bar, scale)


# Frames.


def _pictures(run: RunFolder, frames: int) -> list[tuple[int, np.ndarray]]:
    """(step, uint8 array: height × width × 3) of at most `frames` samples that can be read, evenly in steps.

    All have the size of the last one, and all together at most PIXELS pixels: of large ones there are fewer.
    """
    import numpy as np

    samples = run.samples()
    while samples and (last := _read(run, samples[-1][1])) is None:
        samples.pop()
    if not samples or last is None:
        return []
    read = [(samples[-1][0], np.asarray(last))]
    for step, path in reversed(evenly(samples, max(1, min(frames, PIXELS // math.prod(last.size))))[:-1]):
        sample = _read(run, path)
        if sample is not None:
            read.append((step, np.asarray(_fitted(sample, last.size))))
    return read[::-1]


def _read(run: RunFolder, path: Path) -> Image.Image | None:
    """A sample in RGB, or None if it cannot be read."""
    try:
        with picture(run, path) as sample:
            return sample.convert("RGB")
    except (OSError, SyntaxError):  # SyntaxError is how Pillow reports a broken PNG
        return None


def _fitted(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return picture if picture.size == size else picture.resize(size)


def _squares(picture: np.ndarray, scale: int) -> np.ndarray:
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)


def _smooth(picture: np.ndarray, scale: int) -> np.ndarray:
    import numpy as np
    from PIL import Image

    size = picture.shape[1] * scale, picture.shape[0] * scale
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def _caption(step: int, last: int, width: int) -> np.ndarray:
    """The bar below a picture: shades from 0 (ground) to SHADES − 1 (letters), a line of progress on top."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    size = max(14, width // 28)
    bar = Image.new("L", (width, 2 * size), 0)
    draw = ImageDraw.Draw(bar)
    font = ImageFont.load_default(size)
    draw.text((size // 2, size + 1), f"step {step:,}", fill=255, font=font, anchor="lm")
    draw.rectangle((0, 0, round((width - 1) * step / max(last, 1)), max(1, size // 8)), fill=110)
    return (np.asarray(bar).astype(np.uint16) * (SHADES - 1) // 255).astype(np.uint8)


def _shades() -> np.ndarray:
    import numpy as np

    share = np.linspace(0, 1, SHADES)[:, None]
    return (np.array(BAR) * (1 - share) + np.array(INK) * share).round().astype(np.uint8)


# GIF, by Pillow: imageio chooses a palette for each frame, so that colours flicker.


def _write_gif(
    path: Path, pictures: list[np.ndarray], pause: float, hold: float, bar: Bar | None, background: Any, scale: int
) -> None:
    palette, index = _common_palette(pictures, background)
    frames = _indexed(pictures, palette, index, bar, scale)
    first = next(frames)
    # GIF counts hundredths of a second, and browsers slow down frames shorter than two.
    shown = max(20, round(pause * 100) * 10)
    durations = [shown] * (len(pictures) - 1) + [shown + round(hold * 1000)]
    options: dict[str, Any] = {"save_all": True, "append_images": frames, "duration": durations, "loop": 0}
    first.save(path, format="GIF", optimize=False, comment=MARK, **options)


def _indexed(
    pictures: list[np.ndarray], palette: np.ndarray, index: np.ndarray, bar: Bar | None, scale: int
) -> Iterator[Image.Image]:
    import numpy as np
    from PIL import Image

    for n, pixels in enumerate(pictures):
        cells = pixels >> 2
        places = _squares(index[cells[..., 0], cells[..., 1], cells[..., 2]], scale)
        if bar:
            places = np.concatenate([places, bar(n, places.shape[1])])
        frame = Image.fromarray(places, mode="P")
        frame.putpalette(palette.tobytes())
        yield frame


def _common_palette(pictures: list[np.ndarray], background: Any) -> tuple[np.ndarray, np.ndarray]:
    """One palette for all frames, and each colour's place in it by its upper six bits of red, green and blue.

    First the caption's shades, then the exact colours that fill much of the pictures, then the best of the rest.
    """
    import numpy as np
    from PIL import Image

    some = pictures[:: max(1, len(pictures) // 24)]
    fewer = 1 + sum(picture.size for picture in some) // (3 * COUNTED)  # every so many pixels
    pixels = np.concatenate([picture.reshape(-1, 3)[::fewer] for picture in some])
    exact = np.concatenate([_frequent(pixels), *background, np.full((1, 3), 255)]).astype(np.uint8)
    # One of the 256 places stays free: Pillow uses it for pixels that did not change since the last frame.
    room = 255 - SHADES - len(exact)
    strip = pixels[:: max(1, len(pixels) // 100_000)][None]
    chosen = Image.fromarray(strip).quantize(room, method=Image.Quantize.MEDIANCUT, kmeans=1).getpalette() or []
    others = np.array(chosen[: 3 * room], np.uint8).reshape(-1, 3)
    palette = np.concatenate([_shades(), exact, others])
    index = _nearest(palette[SHADES:]) + np.uint8(SHADES)
    for n, colour in enumerate(exact):
        index[tuple(colour >> 2)] = SHADES + n
    return palette, index


def _frequent(pixels: np.ndarray) -> np.ndarray:
    """Up to eight colours that each fill a hundredth of the pictures or more, the most frequent last."""
    import numpy as np

    packed = pixels.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    colours, counts = np.unique(packed, return_counts=True)
    order = counts.argsort()[-8:]
    order = order[counts[order] >= 0.01 * len(packed)]
    return np.stack([colours[order] >> 16, colours[order] >> 8 & 255, colours[order] & 255], axis=1)


def _nearest(palette: np.ndarray) -> np.ndarray:
    """The nearest of the colours for each of the 64 × 64 × 64 cells of the colour cube."""
    import numpy as np
    from scipy.spatial import KDTree

    level = np.arange(64) * 4 + 1.5
    cells = np.stack(np.meshgrid(level, level, level, indexing="ij"), axis=-1)
    return np.asarray(KDTree(palette).query(cells)[1], np.uint8)


def background(run: RunFolder) -> list[np.ndarray]:
    """The padding colour of the pictures, if config.json has one."""
    import numpy as np
    from PIL import ImageColor

    try:
        return [np.array([ImageColor.getrgb(str(run.config.get("background")))[:3]])]
    except (ValueError, UserError):
        return []


# MP4.


def _write_mp4(path: Path, pictures: list[np.ndarray], pause: float, hold: float, bar: Bar | None, scale: int) -> None:
    import imageio.v2 as imageio
    import numpy as np

    rate = 1 / pause
    shades = _shades()
    # The usual pixel format keeps one colour for 2×2 pixels, and needs even sides.
    options: dict[str, Any] = {"fps": rate, "quality": 8, "macro_block_size": 2}
    options["output_params"] = ["-metadata", f"comment={MARK}"]
    writer: Any = imageio.get_writer(path, format="FFMPEG", mode="I", **options)
    with writer:
        for n, picture in enumerate(pictures):
            frame = _squares(picture, scale)
            if bar:
                frame = np.concatenate([frame, shades[bar(n, frame.shape[1])]])
            for _ in range(1 + (round(hold * rate) if n == len(pictures) - 1 else 0)):
                writer.append_data(frame)
