"""What gankit promises about a folder of pictures."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image, ImageCms, ImageFile, features

from gankit.data import Data, Folder, Request, cache, decode, scan
from gankit.data.colour import flatten
from gankit.data.remembered import remembered
from gankit.data.split import held_out_count
from gankit.errors import UserError
from gankit.files import ordinary

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    return folder


def load(folder: Path | str, size: int = 16, **wishes: Any) -> Data:
    return Folder().open(str(folder), Request(image_size=size, **wishes))


def everything(data: Data) -> np.ndarray:
    return np.concatenate([data.held_out, data.train])


def only(folder: Path, size: int = 16, **wishes: Any) -> np.ndarray:
    """The one picture of a folder, as signed numbers, for differences."""
    (picture,) = everything(load(folder, size, **wishes)).astype(int)
    return picture


def near(pixel: np.ndarray, colour: tuple[int, int, int], within: int = 12) -> bool:
    return bool(np.abs(pixel.astype(int) - np.array(colour)).max() <= within)


def halves(left: Any, right: Any, mode: str = "RGB", size: tuple[int, int] = (32, 32)) -> Image.Image:
    image = Image.new(mode, size, left)
    image.paste(right, (size[0] // 2, 0, *size))
    return image


def noise(seed: int, size: int = 8) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8))


def fill(folder: Path, count: int, first: int = 0) -> None:
    for i in range(first, first + count):
        noise(i).save(folder / f"{i:03d}.png")


def png(depth: int, kind: int, rows: list[bytes], width: int, **chunks: bytes) -> bytes:
    """A PNG written by hand, for what Pillow reads but does not write."""
    header = struct.pack(">IIBBBBB", width, len(rows), depth, kind, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [(b"IHDR", header), *((name.encode(), chunk) for name, chunk in chunks.items()), (b"IDAT", body)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in [*parts, (b"IEND", b"")]
    )


# Formats and colours


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp", "tif", "tiff", "avif"])
def test_every_usual_format_is_read(folder: Path, suffix: str) -> None:
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    halves(RED, BLUE).save(folder / f"a.{suffix}", quality=95)
    picture = only(folder)
    assert picture.shape == (16, 16, 3)
    assert near(picture[8, 2], RED)
    assert near(picture[8, 13], BLUE)


@pytest.mark.parametrize("name", ["really.jpg", "no suffix", "notes.txt", "UPPER.GIF"])
def test_content_decides_not_the_suffix(folder: Path, name: str) -> None:
    halves(RED, BLUE).save(folder / name, format="PNG")
    assert near(only(folder)[8, 2], RED)


def transparent_pictures() -> dict[str, Image.Image]:
    """Left half transparent over black, right half red (or grey where there is no red)."""
    rgba = halves((0, 0, 0, 0), (255, 0, 0, 255), "RGBA")
    palette = halves(0, 1, "P")
    palette.putpalette([*BLACK, *RED])
    by_index, by_bytes = palette.copy(), palette.copy()
    by_index.info["transparency"] = 0
    by_bytes.info["transparency"] = b"\x00\xff"
    grey, rgb, bits = halves(0, 255, "L"), halves(BLACK, RED), halves(0, 1, "1")
    grey.info["transparency"], rgb.info["transparency"], bits.info["transparency"] = 0, BLACK, 0
    deep = halves(0, 65535, "I;16")
    deep.info["transparency"] = 0
    return {
        "RGBA": rgba,
        "LA": halves((0, 0), (200, 255), "LA"),
        "P by index": by_index,
        "P by bytes": by_bytes,
        "L": grey,
        "RGB": rgb,
        "1": bits,
        "I;16": deep,
    }


@pytest.mark.parametrize("kind", transparent_pictures())
def test_transparency_becomes_the_background_not_black(folder: Path, kind: str) -> None:
    image = transparent_pictures()[kind]
    extra: dict[str, Any] = {"transparency": image.info["transparency"]} if "transparency" in image.info else {}
    image.save(folder / "a.png", **extra)
    assert near(only(folder)[8, 2], WHITE, 0)
    blue = only(folder, background=BLUE)
    assert near(blue[8, 2], BLUE, 0)
    assert not near(blue[8, 13], BLUE)


@pytest.mark.parametrize("suffix", ["webp", "gif", "tif"])
def test_transparency_is_seen_in_other_formats_too(folder: Path, suffix: str) -> None:
    extra: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    transparent_pictures()["RGBA"].save(folder / f"a.{suffix}", **extra)
    picture = only(folder)
    assert near(picture[8, 2], WHITE, 2)
    assert near(picture[8, 13], RED, 2)


@pytest.mark.parametrize("mode", ["PA", "La", "RGBa"])
def test_rare_pixel_modes_with_opacity_are_composited(mode: str) -> None:
    from gankit.data.colour import flatten

    image = Image.new("LA" if mode == "La" else "RGBA", (4, 4), 0).convert(mode)
    assert near(np.asarray(flatten(image, BLUE))[0, 0], BLUE, 0)


def test_transparent_edges_get_no_dark_fringe(folder: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = np.zeros((61, 61, 4), np.uint8)  # transparent pixels are black underneath
    pixels[rng.random((61, 61)) < 0.5] = (255, 0, 0, 255)
    Image.fromarray(pixels).save(folder / "a.png")
    assert only(folder)[:, :, 0].min() >= 254  # red on white: full red everywhere


@pytest.mark.parametrize(("mode", "suffix"), [("I;16", "png"), ("I;16", "tif"), ("I;16B", "tif"), ("I", "tif")])
def test_16_bit_grey_is_scaled_not_clipped(folder: Path, mode: str, suffix: str) -> None:
    steps = np.repeat(np.linspace(0, 65535, 16).round().astype(np.uint16)[None], 16, axis=0)
    image = Image.fromarray(steps.astype(np.int32) if mode == "I" else steps.astype(">u2" if "B" in mode else "<u2"))
    assert image.mode == mode
    image.save(folder / f"a.{suffix}")
    assert np.abs(only(folder)[8, :, 0] - np.linspace(0, 255, 16)).max() <= 1


def test_16_bit_colour_keeps_its_transparent_colour(folder: Path) -> None:
    key, other = struct.pack(">3H", 0x1234, 0x5678, 0x9ABC), struct.pack(">3H", 0xFFFF, 0, 0)
    (folder / "a.png").write_bytes(png(16, 2, [key * 4 + other * 4] * 8, 8, tRNS=key))
    picture = only(folder, 8)
    assert near(picture[4, 1], WHITE, 0)
    assert near(picture[4, 6], RED, 0)


@pytest.mark.parametrize(("depth", "row"), [(1, b"\xf0"), (2, b"\xff\x00"), (4, b"\xff\xff\x00\x00")])
def test_shallow_grey_keeps_its_transparent_colour(folder: Path, depth: int, row: bytes) -> None:
    transparent_white = struct.pack(">H", 2**depth - 1)
    (folder / "a.png").write_bytes(png(depth, 0, [row] * 8, 8, tRNS=transparent_white))
    picture = only(folder, 8, background=BLUE)
    assert near(picture[4, 1], BLUE, 0)
    assert near(picture[4, 6], BLACK, 0)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_is_not_inverted(folder: Path, suffix: str) -> None:
    halves((0, 255, 255, 0), (0, 0, 0, 0), "CMYK").save(folder / f"a.{suffix}")
    picture = only(folder)
    assert near(picture[8, 2], RED)
    assert near(picture[8, 13], WHITE)


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_grey_and_palette_pictures_keep_their_colours(folder: Path, mode: str) -> None:
    image = halves(0, 1 if mode != "L" else 255, mode)
    if mode == "P":
        image.putpalette([*BLACK, *WHITE])
    if mode == "1":
        image = halves(0, 255, "L").convert("1")
    image.save(folder / "a.png")
    picture = only(folder)
    assert near(picture[8, 2], BLACK, 0)
    assert near(picture[8, 13], WHITE, 0)


@pytest.mark.parametrize("mode", ["YCbCr", "LAB"])
def test_other_colour_spaces_are_converted(folder: Path, mode: str) -> None:
    image = halves(RED, BLUE)
    if mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        converted = ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB")
        assert converted is not None
        image = converted
    else:
        image = image.convert(mode)
    image.save(folder / "a.tif")
    picture = only(folder)
    assert near(picture[8, 2], RED)
    assert near(picture[8, 13], BLUE, 25)  # 8-bit CIELAB is coarse


def test_floating_point_brightness_is_scaled_or_refused(folder: Path) -> None:
    fine = np.repeat(np.linspace(0, 1, 16, dtype=np.float32)[None], 16, axis=0)
    Image.fromarray(fine).save(folder / "fine.tif")
    Image.fromarray(fine * 1000).save(folder / "large.tif")
    Image.fromarray(np.where(fine > 0.5, np.nan, fine)).save(folder / "nan.tif")
    Image.fromarray(fine.astype(np.int32) * 10**6).save(folder / "wide.tif")
    data = load(folder)
    assert np.abs(everything(data)[0, 8, :, 0].astype(int) - np.linspace(0, 255, 16)).max() <= 1
    reasons = {note["file"]: note["reason"] for note in data.skipped}
    assert reasons["large.tif"] == reasons["nan.tif"] == "floating-point brightness outside 0 to 1"
    assert reasons["wide.tif"] == "32-bit brightness outside 0 to 65535"


def swapped_profile() -> bytes:
    """sRGB with the names of its red and its green primary exchanged."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))
    return profile.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")


def green_ink_profile() -> bytes:
    """A CMYK profile in which every ink but black is green."""
    text = b"green ink\0"
    name = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(4 + 4 + 2 + 1 + 67)
    name += bytes(-len(name) % 4)
    ramp = bytes(range(256))
    paper, ink, black = bytes([255, 128, 128]), bytes([128, 68, 190]), bytes([0, 128, 128])  # in CIELAB
    corners = paper + black + (ink + black) * 7
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + struct.pack(">9i", *([65536, 0, 0, 0] * 2), 65536)
    table += ramp * 4 + corners + ramp * 3
    table += bytes(-len(table) % 4)
    start = 128 + 4 + 2 * 12
    tags = struct.pack(">I4sII4sII", 2, b"desc", start, len(name), b"A2B0", start + len(name), len(table))
    header = struct.pack(
        ">II I4s4s4s 12x 4s 4xI4x4x8xI 3i", start + len(name) + len(table), 0, 0x02400000,
        b"prtr", b"CMYK", b"Lab ", b"acsp", 0, 0, 63190, 65536, 54061,
    )  # fmt: skip
    return header.ljust(128, b"\0") + tags + name + table


def test_an_embedded_profile_is_honoured(folder: Path) -> None:
    Image.new("RGB", (16, 16), RED).save(folder / "a.png", icc_profile=swapped_profile())
    assert near(only(folder)[8, 8], GREEN)


def test_an_embedded_cmyk_profile_is_honoured(folder: Path) -> None:
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(folder / "a.jpg", icc_profile=green_ink_profile())
    red, green, blue = only(folder)[8, 8]
    assert green > 100
    assert blue < 80
    assert red < 80


def test_a_broken_profile_does_no_harm(folder: Path) -> None:
    Image.new("RGB", (16, 16), RED).save(folder / "a.png", icc_profile=b"not a profile")
    assert near(only(folder)[8, 8], RED, 0)


# Orientation, frames, shape


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_exif_orientation_is_honoured(folder: Path, suffix: str, orientation: int) -> None:
    upright = Image.new("RGB", (32, 32), WHITE)
    upright.paste(RED, (0, 0, 16, 16))
    upright.paste(BLUE, (16, 0, 32, 16))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(folder / f"a.{suffix}", exif=exif, quality=95)
    picture = only(folder)
    assert near(picture[3, 3], RED)
    assert near(picture[3, 12], BLUE)
    assert near(picture[12, 8], WHITE)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_the_first_frame_of_an_animation_is_taken(folder: Path, suffix: str) -> None:
    further = [Image.new("RGB", (16, 16), BLUE), Image.new("RGB", (16, 16), GREEN)]
    Image.new("RGB", (16, 16), RED).save(folder / f"a.{suffix}", save_all=True, append_images=further)
    assert near(only(folder)[8, 8], RED)


def test_a_picture_is_padded_to_a_square_on_the_background(folder: Path) -> None:
    Image.new("RGB", (40, 20), RED).save(folder / "a.png")
    picture = only(folder, background=BLUE)
    assert all(near(picture[row, 8], BLUE, 0) for row in (0, 3, 12, 15))
    assert all(near(picture[row, 8], RED, 0) for row in (4, 11))


def test_a_picture_can_be_cropped_to_its_middle(folder: Path) -> None:
    image = Image.new("RGB", (60, 20), BLUE)
    image.paste(RED, (20, 0, 40, 20))
    image.save(folder / "a.png")
    assert near(only(folder, fit="crop")[:, 1:-1].reshape(-1, 3), RED, 30)


@pytest.mark.parametrize("fit", ["pad", "crop"])
@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (3, 2)])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_odd_shapes_are_no_trouble(folder: Path, fit: str, size: tuple[int, int], suffix: str) -> None:
    Image.new("RGB", size, RED).save(folder / f"a.{suffix}")
    assert only(folder, fit=fit).shape == (16, 16, 3)


def test_a_picture_of_the_right_size_is_taken_as_it_is(folder: Path) -> None:
    noise(1, 16).save(folder / "a.png")
    assert (only(folder) == np.asarray(noise(1, 16))).all()


def test_a_large_photo_is_shrunk_on_decoding_without_a_visible_difference(folder: Path) -> None:
    across, down = np.meshgrid(np.linspace(0, 255, 1600), np.linspace(0, 255, 1200))
    photo = Image.fromarray(np.stack([across, down, 255 - across], axis=2).astype(np.uint8))
    photo.save(folder / "a.jpg", quality=95)
    expected = np.asarray(photo.resize((32, 24), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(only(folder, 32)[4:28] - expected).max() <= 4


# Skipped files, ignored files and warnings


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp", "tif"])
@pytest.mark.parametrize("share", [0.05, 0.6])
def test_a_truncated_file_is_skipped(folder: Path, suffix: str, share: float) -> None:
    fill(folder, 1)
    noise(1, 64).save(folder / f"cut.{suffix}")
    whole = (folder / f"cut.{suffix}").read_bytes()
    (folder / f"cut.{suffix}").write_bytes(whole[: int(len(whole) * share)])
    data = load(folder)
    assert data.skipped == [{"file": f"cut.{suffix}", "reason": "damaged or cut short"}]
    assert len(data.train) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file"),
        (b"Dear diary, today I drew a cat.", "not a picture"),
        (
            b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>",
            "SVG drawing: export it as PNG",
        ),
        (b"\n<!DOCTYPE html><html>404 <svg/></html>", "a web page, not a picture"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC photo: export it as JPEG or PNG"),
        (b"8BPS\0\1", "Photoshop file: export it as PNG"),
        (b"%PDF-1.7", "a PDF: export it as PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript: export it as PNG"),
    ],
)
def test_what_is_no_picture_is_skipped_with_a_reason(folder: Path, content: bytes, reason: str) -> None:
    fill(folder, 1)
    (folder / "odd.png").write_bytes(content)
    ((note),) = load(folder).skipped
    assert note["file"] == "odd.png"
    assert reason in note["reason"]
    assert "\n" not in note["reason"]


def test_an_enormous_picture_is_skipped(folder: Path) -> None:
    fill(folder, 1)
    bomb = bytearray(png(1, 0, [bytes(2500)], 20000))
    bomb[20:24] = struct.pack(">I", 20000)  # the height, in the header
    bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
    (folder / "bomb.png").write_bytes(bomb)
    assert load(folder).skipped == [{"file": "bomb.png", "reason": "too large: more than 178 million pixels"}]


def peak_memory(code: str, *arguments: object) -> int:
    """The most memory in bytes that Python code needs in a process of its own."""
    tail = "\nprint([line for line in open('/proc/self/status') if line.startswith('VmHWM')][0].split()[1])"
    command = [sys.executable, "-W", "ignore", "-c", code + tail, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) * 1024


def test_large_pictures_of_small_files_take_the_memory_of_one(folder: Path) -> None:
    """Regression: a PNG of 22 kB took 2.3 GB, and four of them on two threads 4 GB."""
    for name in "abc":
        Image.new("RGBA", (4500, 4500), (ord(name), 9, 9, 99)).save(folder / f"{name}.png", compress_level=1)
    code = (
        "import sys\nfrom gankit.data import Folder, Request, decode\n"
        "decode._budget._most = decode._budget._free = 30_000_000\n"
        "assert not Folder().open(sys.argv[1], Request(image_size=16)).skipped"
    )
    assert peak_memory(code, folder) < 4500 * 4500 * 4 + (115 << 20)  # the picture, the program, and little else


def test_a_picture_of_too_many_pixels_is_skipped_with_its_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(folder, 1)
    noise(1, 300).save(folder / "large.png")
    noise(2, 220).save(folder / "large.webp", lossless=True)  # its decoder holds it twice
    noise(3, 190).save(folder / "small.webp", lossless=True)
    noise(4, 250).save(folder / "photo.jpg", progressive=True)  # its coefficients are those of all pixels
    monkeypatch.setattr(decode, "_budget", decode._Budget(80_000))
    skipped = {note["file"]: note["reason"] for note in load(folder).skipped}
    assert skipped.keys() == {"large.png", "large.webp"}
    assert all(reason.startswith("too large: ") for reason in skipped.values())


@pytest.mark.parametrize("fit", ["pad", "crop"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
@pytest.mark.parametrize("size", [(900, 700), (613, 97), (5, 1200), (40, 30), (16, 16)])
def test_bands_give_the_pixels_of_the_whole_picture(
    size: tuple[int, int], mode: str, fit: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference flattens all of it first, and resizes it with Pillow's own averaging."""
    drawn = np.random.default_rng(0).integers(0, 256, (*size[::-1], 4), dtype=np.uint8)
    image = Image.fromarray(drawn).convert("RGB").quantize(16) if mode == "P" else Image.fromarray(drawn).convert(mode)
    image.save(folder / "a.png")
    whole = flatten(image, WHITE)
    box, edge = (0.0, 0.0, *map(float, size)), min(size)
    target = (16, 16)
    if fit == "crop":
        left, top = (size[0] - edge) / 2, (size[1] - edge) / 2
        box = (left, top, left + edge, top + edge)
    else:
        target = tuple(max(1, round(length * 16 / max(size))) for length in size)  # type: ignore[assignment]
    small = whole.resize(target, Image.Resampling.BICUBIC, box, reducing_gap=3.0)
    page = Image.new("RGB", (16, 16), WHITE)
    page.paste(small, ((16 - target[0]) // 2, (16 - target[1]) // 2))
    monkeypatch.setattr(decode, "_BAND", 2000)
    assert np.array_equal(only(folder, fit=fit), np.asarray(page))


def test_threads_wait_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    budget, held, most = decode._Budget(10), [], []

    def work(pixels: int) -> None:
        for _ in range(50):
            with budget.of(pixels):
                held.append(pixels)
                most.append(sum(held))
                time.sleep(0.0001)
                held.remove(pixels)

    threads = [threading.Thread(target=work, args=(pixels,)) for pixels in (3, 4, 5, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(most) == 200
    assert max(most) <= 10
    with pytest.raises(decode.Unusable), budget.of(11):
        pass


def test_an_unreadable_file_is_skipped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(folder, 2)

    def guarded(path: Any) -> Any:
        if str(path).endswith("001.png"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return ordinary(path)

    monkeypatch.setattr(decode, "ordinary", guarded)
    assert load(folder).skipped == [{"file": "001.png", "reason": "cannot be read: permission denied"}]


def test_a_file_that_could_not_be_read_once_is_there_at_the_next_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, 2)

    def full(path: Any) -> Any:
        if str(path).endswith("001.png"):
            raise OSError(errno.EMFILE, "Too many open files")
        return ordinary(path)

    with monkeypatch.context() as patch:
        patch.setattr(decode, "ordinary", full)
        assert load(folder).skipped == [{"file": "001.png", "reason": "cannot be read: too many open files"}]
    assert load(folder).skipped == []
    assert len(everything(load(folder))) == 2


def test_a_file_made_readable_is_noticed(folder: Path) -> None:
    fill(folder, 2)
    (folder / "001.png").chmod(0o000)
    before = load(folder)
    (folder / "001.png").chmod(0o644)
    assert len(everything(load(folder))) == 2
    assert len(before.skipped) in (0, 1)  # the superuser may read it all the same


def test_pipes_and_broken_links_are_skipped(folder: Path) -> None:
    fill(folder, 1)
    os.mkfifo(folder / "pipe.png")
    (folder / "link.png").symlink_to("nowhere.png")
    assert load(folder).skipped == [
        {"file": "link.png", "reason": "a link to nothing"},
        {"file": "pipe.png", "reason": "not an ordinary file"},
    ]


def test_litter_and_hidden_files_are_passed_over_silently(folder: Path) -> None:
    fill(folder, 2)
    for name in (".DS_Store", "._000.png", "Thumbs.db", "desktop.ini", "__MACOSX/000.png", ".git/x.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        noise(hash(name) % 1000).save(folder / name, format="PNG")
    data = load(folder)
    assert len(everything(data)) == 2
    assert data.skipped == data.warned == []


def test_blank_pictures_and_copies_are_warned_of_and_used(folder: Path) -> None:
    Image.new("RGBA", (16, 16), (0, 0, 0, 0)).save(folder / "clear.png")
    fill(folder, 1)
    (folder / "copy.png").write_bytes((folder / "000.png").read_bytes())
    data = load(folder)
    assert data.warned == [
        {"file": "clear.png", "reason": "blank: every pixel is the same colour (fully transparent?)"},
        {"file": "copy.png", "reason": "same bytes as 000.png"},
    ]
    assert len(everything(data)) == 3


def test_pillow_is_left_as_it_was(folder: Path) -> None:
    fill(folder, 1)
    load(folder)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


# Folders, labels, names


def test_nested_folders_are_labelled_by_their_first_level(folder: Path) -> None:
    for i, place in enumerate(("zebras", "cats/old/grey", "cats")):
        (folder / place).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (i * 100, 0, 0)).save(folder / place / f"{i}.png")
    (folder / "no pictures").mkdir()
    (folder / "no pictures" / "readme.txt").write_text("nothing to see")
    data = load(folder, holdout=0)
    assert data.label_names == ("cats", "zebras")
    assert data.labels is not None
    assert data.labels.dtype == np.int64
    assert {(int(p[0, 0, 0]), int(n)) for p, n in zip(data.train, data.labels, strict=True)} == {
        (0, 1),
        (100, 0),
        (200, 0),
    }


def test_pictures_beside_subfolders_have_the_label_dot(folder: Path) -> None:
    (folder / "cats").mkdir()
    fill(folder, 1)
    fill(folder / "cats", 1, first=1)
    assert load(folder).label_names == (".", "cats")


def test_a_flat_folder_has_no_labels(folder: Path) -> None:
    fill(folder, 3)
    data = load(folder)
    assert data.labels is None
    assert data.label_names == ()


def test_spaces_and_any_script_are_fine_in_names(tmp_path: Path) -> None:
    folder = tmp_path / "いらすとや 絵 été"
    (folder / "子供 たち").mkdir(parents=True)
    noise(0).save(folder / "子供 たち" / "走る 子.png")
    (folder / "子供 たち" / "メモ.png").write_text("メモ")
    data = load(folder)
    assert data.name == str(folder)
    assert data.label_names == ("子供 たち",)
    assert data.skipped[0]["file"] == "子供 たち/メモ.png"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_not_unicode_can_still_be_written_down(folder: Path) -> None:
    fill(folder, 1)
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png")).write_bytes(b"")
    ((note),) = load(folder).skipped
    assert note["file"].encode() == "caf\ufffd.png".encode()


def test_a_link_that_leads_nowhere_is_skipped_and_named_and_the_rest_is_used(folder: Path) -> None:
    """Regression: one such file refused a whole folder."""
    for name in ("one.png", "two.png"):
        halves(RED if name == "one.png" else GREEN, BLUE).save(folder / name)
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "ping").symlink_to("pong")
    (folder / "pong").symlink_to("ping")
    (folder / "long").symlink_to("x" * 300)
    (folder / "below a file").symlink_to("one.png/further")
    data = load(folder)
    assert len(everything(data)) == 2
    assert [note["file"] for note in data.skipped] == ["below a file", "long", "loop.png", "ping", "pong"]
    assert all("cannot be read" in note["reason"] or "link to nothing" in note["reason"] for note in data.skipped)


def test_a_link_to_the_whole_disk_is_not_followed(folder: Path) -> None:
    halves(RED, BLUE).save(folder / "one.png")
    (folder / "everything").symlink_to("/")
    (folder / "parent").symlink_to(folder.parent)
    data = load(folder)
    assert len(everything(data)) == 1
    assert {note["file"]: note["reason"] for note in data.skipped} == dict.fromkeys(
        ("everything", "parent"), "a link to a folder that this one lies in"
    )


def test_deeply_nested_folders_take_no_more_than_their_share_of_time(folder: Path) -> None:
    """Regression: a depth of 1,000 took 12 s."""
    deepest = folder
    for _ in range(1000):
        deepest = deepest / "d"
        deepest.mkdir()
    halves(RED, BLUE).save(deepest / "one.png")
    began = time.process_time()
    found, problems = scan.scan(folder)
    took = time.process_time() - began
    subprocess.run(["rm", "-r", folder / "d"], check=True)  # too deep for pytest's own clean-up
    assert took < 3
    assert [len(found), problems] == [1, []]


def test_what_takes_the_place_of_a_file_after_the_scan_is_skipped(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A named pipe would wait for ever, and /dev/zero never end."""
    fill(folder, 5)
    real = scan.scan

    def scanned(*arguments: Any, **options: Any) -> Any:
        found = real(*arguments, **options)
        for name in ("001.png", "002.png", "003.png"):
            (folder / name).unlink()
        os.mkfifo(folder / "001.png")
        (folder / "002.png").symlink_to("/dev/zero")
        (folder / "003.png").mkdir()
        return found

    monkeypatch.setattr("gankit.data.folder.scan", scanned)
    skipped = load(folder).skipped
    assert [(note["file"], note["reason"]) for note in skipped] == [
        (f"00{n}.png", "not an ordinary file") for n in (1, 2, 3)
    ]


def test_a_sparse_file_of_forty_gigabytes_is_skipped_at_once(folder: Path) -> None:
    fill(folder, 1)
    for name, size, start in (
        ("sparse.png", 40 << 30, b""),
        ("zeros.bin", 900 << 20, b""),
        ("a.webp", 900 << 20, b"RIFF"),
    ):
        (folder / name).write_bytes(start)
        os.truncate(folder / name, size)
    began = time.monotonic()
    skipped = {note["file"]: note["reason"] for note in load(folder).skipped}
    assert time.monotonic() - began < 2
    assert "42.9 GB" in skipped.pop("sparse.png")
    assert skipped == {"zeros.bin": "not a picture", "a.webp": "not a picture"}


def test_links_to_the_whole_machine_are_named_and_not_followed(folder: Path) -> None:
    fill(folder, 1)
    (folder / "root").symlink_to("/")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "terminal.png").symlink_to("/dev/tty")
    skipped = {note["file"]: note["reason"] for note in load(folder).skipped}
    assert skipped.keys() == {"root", "zero.png", "terminal.png"}
    assert skipped["root"] == "a link to a folder that this one lies in"


def test_links_into_what_the_kernel_shows_are_named_and_not_followed(folder: Path, tmp_path: Path) -> None:
    """Regression: a link to /proc was walked, process by process, and so led into every process's folder."""
    fill(folder, 1)
    links = ("/proc", "/proc/self", "/sys/kernel", "/dev", "/dev/fd", "/proc/version")
    for n, place in enumerate(links):
        (folder / f"link {n}").symlink_to(place)
    (tmp_path / "through").symlink_to("/proc")
    (folder / "two links").symlink_to(tmp_path / "through")
    data = load(folder)
    assert len(everything(data)) == 1
    told = {note["file"]: note["reason"] for note in data.skipped}
    assert told.keys() == {*(f"link {n}" for n in range(len(links))), "two links"}
    assert set(told.values()) == {"a link into /proc, /sys or /dev, where no pictures lie"}


def test_pictures_in_memory_are_found_through_a_link(folder: Path) -> None:
    """/dev/shm lies below /dev, and people keep pictures there."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        fill(Path(memory), 2)
        (folder / "quick").symlink_to(memory)
        assert len(everything(load(folder))) == 2


def test_links_are_followed_but_not_in_circles(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    fill(elsewhere, 2)
    (folder / "a link").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder)
    (folder / "b").mkdir()
    noise(9).save(folder / "b" / "9.png")
    (folder / "a loop").symlink_to(folder / "b")
    (folder / "b" / "file.png").symlink_to(elsewhere / "000.png")
    data = load(folder)
    assert data.label_names == ("a link", "b")
    assert len(everything(data)) == 4


def test_the_home_folder_may_be_written_as_a_tilde(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    fill(folder, 1)
    data = load("~/pictures")
    assert data.name == "~/pictures"
    assert len(data.train) == 1


# Unusable data: one line that says what, where and what to do


def complaint(argument: Path | str | None) -> str:
    with pytest.raises(UserError) as caught:
        Folder().open(None if argument is None else str(argument), Request(image_size=16))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_folder_is_a_users_error(tmp_path: Path) -> None:
    message = complaint(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in message
    assert "check the path" in message


def test_a_file_is_not_a_folder(folder: Path) -> None:
    fill(folder, 1)
    assert "is a file, not a folder" in complaint(folder / "000.png")


def test_an_empty_folder_is_a_users_error(folder: Path) -> None:
    (folder / ".DS_Store").write_text("")
    assert "it holds no files" in complaint(folder)


def test_a_folder_without_usable_pictures_is_a_users_error(folder: Path, own_cache: Path) -> None:
    (folder / "a.txt").write_text("hello")
    (folder / "b.txt").write_text("")
    message = complaint(folder)
    assert "files looked at: 2" in message
    assert "a.txt" in message
    assert "not a picture" in message
    assert list((own_cache / "pictures").iterdir()) == []


def unlistable(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def guarded(path: Any) -> Any:
        if os.path.basename(os.path.normpath(path)) == name:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path)

    real = os.scandir
    monkeypatch.setattr(scan.os, "scandir", guarded)


def test_a_folder_that_cannot_be_listed_is_a_users_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(folder, 1)
    unlistable(monkeypatch, folder.name)
    message = complaint(folder)
    assert "permission denied" in message
    assert "check its permissions" in message


def test_a_subfolder_that_cannot_be_listed_is_skipped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "secret").mkdir()
    unlistable(monkeypatch, "secret")
    assert "secret: the folder cannot be read: permission denied" in complaint(folder)
    fill(folder, 1)
    assert load(folder).skipped == [{"file": "secret", "reason": "the folder cannot be read: permission denied"}]


def test_no_folder_is_a_users_error() -> None:
    assert "--data" in complaint(None)


# Held out


def rows(pictures: np.ndarray) -> set[bytes]:
    return {picture.tobytes() for picture in pictures}


def test_a_tenth_is_held_out(folder: Path) -> None:
    fill(folder, 40)
    data = load(folder)
    assert (len(data.held_out), len(data.train)) == (4, 36)
    assert not rows(data.held_out) & rows(data.train)


def test_nothing_is_held_out_if_so_wished(folder: Path) -> None:
    fill(folder, 20)
    data = load(folder, holdout=0)
    assert data.held_out.shape == (0, 16, 16, 3)
    assert len(data.train) == 20


def test_what_is_held_out_depends_on_the_contents_alone(folder: Path, tmp_path: Path) -> None:
    fill(folder, 30)
    before = load(folder)
    moved = folder.rename(tmp_path / "moved")
    for i, path in enumerate(sorted(moved.iterdir())):
        path.rename(moved / f"renamed {-i}.png")
    after = load(moved)
    assert (before.held_out == after.held_out).all()
    assert before.digest == after.digest


def test_copies_are_never_on_both_sides(folder: Path) -> None:
    fill(folder, 5)
    for i in range(5):
        for copy in range(4):
            (folder / f"{i}-{copy}.png").write_bytes((folder / f"{i:03d}.png").read_bytes())
    for holdout in (0.01, 0.1, 0.3, 0.5, 0.9):
        data = load(folder, holdout=holdout)
        assert not rows(data.held_out) & rows(data.train)
        assert len(data.held_out) % 5 == 0
        assert len(data.held_out) > 0
        assert len(data.train) > 0


@pytest.mark.parametrize(
    ("contents", "share", "count"),
    [
        ("a", 0.5, 0),
        ("aaaa", 0.5, 0),
        ("ab", 0.01, 1),
        ("ab", 0.99, 1),
        ("aaab", 0.25, 3),
        ("abbb", 0.75, 1),
        ("abcdefghij", 0.1, 1),
        ("abcdefghij", 0.25, 3),
        ("abcdefghij", 0.0, 0),
        ("abbcdefghi", 0.2, 1),
    ],
)
def test_the_cut_is_the_nearest_that_splits_no_copies(contents: str, share: float, count: int) -> None:
    assert held_out_count(contents, share) == count


def test_the_digest_names_content_and_settings(folder: Path) -> None:
    fill(folder, 4)
    digests = {load(folder, **wishes).digest for wishes in ({}, {"fit": "crop"}, {"background": RED}, {"size": 8})}
    assert len(digests) == 4
    assert load(folder, holdout=0.5).digest in digests
    fill(folder, 1, first=4)
    assert load(folder).digest not in digests


# The cache


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(decode, "read", refuse)


def test_a_second_start_decodes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "cats").mkdir()
    fill(folder / "cats", 12)
    (folder / "odd.txt").write_text("odd")
    (folder / "copy.png").write_bytes((folder / "cats" / "000.png").read_bytes())
    first = load(folder)
    forbid_decoding(monkeypatch)
    second = load(folder)
    assert isinstance(second.train, np.memmap)
    assert (everything(first) == everything(second)).all()
    assert np.array_equal(first.labels, second.labels)  # type: ignore[arg-type]
    for name in ("label_names", "skipped", "warned", "digest", "name"):
        assert getattr(first, name) == getattr(second, name)
    assert len(load(folder, holdout=0.5).held_out) == 7  # another share needs no decoding either


def test_progress_is_told_while_decoding_only(folder: Path) -> None:
    fill(folder, 5)
    told: list[tuple[int, int]] = []
    load(folder, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    told.clear()
    load(folder, progress=lambda done, total: told.append((done, total)))
    assert told == []


def test_a_changed_folder_is_noticed(folder: Path) -> None:
    fill(folder, 3)
    load(folder)
    noise(50).save(folder / "new.png")
    assert len(everything(load(folder))) == 4
    (folder / "new.png").unlink()
    assert len(everything(load(folder))) == 3
    before = load(folder)
    Image.new("RGB", (8, 8), RED).save(folder / "000.png")
    after = load(folder)
    assert before.digest != after.digest
    assert after.warned[0]["file"] == "000.png"


def test_a_file_changed_without_a_change_of_size_is_noticed(folder: Path) -> None:
    noise(0).save(folder / "a.bmp")
    before = only(folder)
    size = (folder / "a.bmp").stat().st_size
    noise(1).save(folder / "a.bmp")
    assert (folder / "a.bmp").stat().st_size == size
    assert (only(folder) != before).any()


@pytest.mark.parametrize("wishes", [{"fit": "crop"}, {"background": BLACK}, {"size": 8}])
def test_a_changed_setting_is_noticed(folder: Path, wishes: dict[str, Any]) -> None:
    halves(RED, BLUE, size=(32, 8)).save(folder / "a.png")
    before, after = only(folder), only(folder, **wishes)
    assert before.shape != after.shape or (before != after).any()


def entry_of(own_cache: Path) -> Path:
    (entry,) = (own_cache / "pictures").iterdir()
    return entry


def flip_a_byte(entry: Path) -> None:
    content = bytearray((entry / "pictures.npy").read_bytes())
    content[-5] ^= 0xFF
    (entry / "pictures.npy").write_bytes(content)


DAMAGE = {
    "short": lambda entry: os.truncate(entry / "pictures.npy", 500),
    "empty": lambda entry: os.truncate(entry / "pictures.npy", 0),
    "a byte": flip_a_byte,
    "no pictures": lambda entry: (entry / "pictures.npy").unlink(),
    "no index": lambda entry: (entry / "index.json").unlink(),
    "half an index": lambda entry: os.truncate(entry / "index.json", 100),
    "another index": lambda entry: (entry / "index.json").write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_noticed_and_built_again(folder: Path, own_cache: Path, damage: str) -> None:
    fill(folder, 5)
    before = np.array(everything(load(folder)))
    DAMAGE[damage](entry_of(own_cache))
    assert (everything(load(folder)) == before).all()
    assert (everything(load(folder)) == before).all()
    assert sorted(path.name for path in entry_of(own_cache).iterdir()) == ["index.json", "pictures.npy"]


def test_an_interrupted_start_leaves_nothing_behind(folder: Path, own_cache: Path) -> None:
    fill(folder, 5)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(folder, progress=interrupt)
    assert list((own_cache / "pictures").iterdir()) == []
    assert len(everything(load(folder))) == 5


def test_leavings_and_long_unused_entries_make_room(folder: Path, own_cache: Path) -> None:
    fill(folder, 1)
    load(folder)
    old_entry, abandoned = entry_of(own_cache), own_cache / "pictures" / f".building-{0:032x}"
    abandoned.mkdir()
    (own_cache / "pictures" / "mine").mkdir()
    long_ago = time.time() - 100 * 86400
    for path in (old_entry / "index.json", abandoned, own_cache / "pictures" / "mine"):
        os.utime(path, (long_ago, long_ago))
    load(folder, 8)
    assert not old_entry.exists()
    assert not abandoned.exists()
    assert (own_cache / "pictures" / "mine").exists()


@pytest.mark.parametrize("how", ["encrypted", "of an unknown method", "endless"])
def test_kept_features_that_cannot_be_read_are_computed(how: str, own_cache: Path) -> None:
    made, key = np.ones((3, 2), np.float32), "0" * 32
    remembered(key, 3, lambda: made)
    path = own_cache / "features" / f"{key}.npz"
    assert (remembered(key, 3, lambda: made * 2) == made).all()
    if how == "endless":
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 50, 2)})
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("features.npy", header.getvalue())
    else:
        content = bytearray(path.read_bytes())
        content[content.index(b"PK\1\2") + (8 if how == "encrypted" else 10)] = 1 if how == "encrypted" else 99
        path.write_bytes(content)
    assert (remembered(key, 3, lambda: made * 2) == 2 * made).all()


def test_of_two_at_once_one_decodes_and_both_succeed(
    folder: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second starts while the first is decoding, and waits for it."""
    fill(folder, 3)
    decoded: list[Path] = []
    read = decode.read
    monkeypatch.setattr(decode, "read", lambda source, request: (decoded.append(source), read(source, request))[1])
    others: list[threading.Thread] = []
    within: list[Data] = []

    def meanwhile(done: int, total: int) -> None:
        if not others:
            others.append(threading.Thread(target=lambda: within.append(load(folder))))
            others[0].start()
            time.sleep(0.3)

    outer = load(folder, progress=meanwhile)
    others[0].join()
    assert (everything(outer) == everything(within[0])).all()
    assert len(decoded) == 3
    entry_of(own_cache)


def test_nobody_waits_for_a_process_that_has_stopped(
    folder: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second starts and ends while the first, which decodes, does nothing any more."""
    fill(folder, 3)
    monkeypatch.setattr(cache, "_PATIENCE", 0.2)
    within: list[Data] = []

    def meanwhile(done: int, total: int) -> None:
        if done == 2:
            time.sleep(0.3)
            within.append(load(folder))

    outer = load(folder, progress=meanwhile)
    assert (everything(outer) == everything(within[0])).all()
    entry_of(own_cache)


def test_pictures_that_do_not_fit_on_the_disk_are_refused_before_they_are_decoded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, 3)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, 4000))
    told: list[int] = []
    with pytest.raises(UserError, match=r"3 pictures or more of 16×16 pixels take 0\.0 GB in the cache") as refused:
        load(folder, progress=lambda done, total: told.append(done))
    assert "GANKIT_CACHE" in str(refused.value)
    assert told == []


def test_a_cache_that_cannot_be_written_is_a_users_error(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, 1)
    (tmp_path / "a file").write_text("in the way")
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "a file"))
    message = complaint(folder)
    assert str(tmp_path / "a file") in message
    assert "GANKIT_CACHE" in message


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is always full")
def test_a_full_disk_is_a_users_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(folder, 1)

    def on_a_full_disk(path: Any, mode: str = "r") -> Any:
        return open("/dev/full" if "w" in mode else path, mode)

    monkeypatch.setattr(cache, "open", on_a_full_disk, raising=False)
    message = complaint(folder)
    assert "No space left" in message
    assert "GANKIT_CACHE" in message


def test_the_cache_is_the_users_cache_folder_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GANKIT_CACHE")
    assert "gankit" in str(cache.root())


def test_a_cache_inside_the_data_folder_is_not_taken_for_data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANKIT_CACHE", str(folder / "cache"))
    fill(folder, 2)
    load(folder)
    forbid_decoding(monkeypatch)
    assert load(folder).skipped == []


def test_the_checksum_of_a_long_file_covers_both_its_ends(
    folder: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_BLOCK", 64)
    monkeypatch.setattr(cache, "_BLOCKS", 4)
    fill(folder, 5)
    load(folder)
    whole = entry_of(own_cache)
    flip_a_byte(whole)
    assert cache._load(whole) is None


# The data folder itself


def state(folder: Path) -> dict[str, tuple[int, str]]:
    return {
        str(path): (
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in (folder, *folder.rglob("*"))
    }


def test_the_data_folder_is_never_touched(folder: Path) -> None:
    (folder / "cats").mkdir()
    fill(folder / "cats", 3)
    before = state(folder)
    load(folder)
    load(folder, 8)
    assert state(folder) == before


def test_a_read_only_data_folder_is_enough(folder: Path) -> None:
    fill(folder, 3)
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    try:
        assert len(everything(load(folder))) == 3
    finally:
        folder.chmod(0o755)


def test_importing_the_data_package_is_light() -> None:
    heavy = "import sys, gankit.data; print(sorted({'torch', 'PIL', 'matplotlib'} & set(sys.modules)))"
    package = str(ROOT)
    answer = subprocess.run(
        [sys.executable, "-c", heavy],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": package},
    )
    assert answer.stdout.strip() == "[]"
