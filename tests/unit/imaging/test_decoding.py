"""Images are decoded in BGR order as they are displayed; other files are rejected."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from engines.failures import EngineFailure, FailureReason
from engines.imaging import Size, decode, decoding, encode_png, measure

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def refused(source: bytes | Path) -> str:
    for read in (decode, measure):
        with pytest.raises(EngineFailure) as caught:
            read(source)
        assert caught.value.reason is FailureReason.INVALID_DATA
    return f"{caught.value.message} {caught.value.evidence}"


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_channels_come_in_blue_green_red(kind: str, tmp_path: Path) -> None:
    content = encoded(Image.fromarray(PIXELS), kind, **({"lossless": True} if kind == "WEBP" else {}))
    np.testing.assert_array_equal(decode(content), PIXELS[:, :, ::-1])
    (tmp_path / "x").write_bytes(content)
    np.testing.assert_array_equal(decode(tmp_path / "x"), PIXELS[:, :, ::-1])
    assert measure(tmp_path / "x") == Size(9, 6)


def test_encoding_is_undone_by_decoding() -> None:
    np.testing.assert_array_equal(decode(encode_png(PIXELS)), PIXELS)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_by_their_exif_orientation(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(PIXELS), exif=exif)
    shown = {
        1: PIXELS,
        2: PIXELS[:, ::-1],
        3: PIXELS[::-1, ::-1],
        4: PIXELS[::-1],
        5: PIXELS.transpose(1, 0, 2),
        6: np.rot90(PIXELS, -1),
        7: PIXELS[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(PIXELS),
    }[orientation]
    for read in (content, encoded(Image.fromarray(PIXELS), "TIFF", exif=exif)):
        np.testing.assert_array_equal(decode(read), shown[:, :, ::-1])
        measured = measure(read)
        assert (measured.width, measured.height) == (shown.shape[1], shown.shape[0])
        assert bool(measured.turn) is (orientation > 1)


@pytest.mark.filterwarnings("ignore:Metadata Warning")
def test_damaged_exif_data_is_ignored() -> None:
    # What is no orientation, and an entry that cannot be written again: an import that measures must not let pass what
    # an evaluation then fails to decode.
    exif = Image.Exif()
    exif[0x0112], exif[0x011A], exif[0x829A] = 6, (1, 3), 2
    content = encoded(Image.fromarray(PIXELS), exif=exif)
    turned = np.rot90(PIXELS, -1)[:, :, ::-1]
    np.testing.assert_array_equal(decode(content), turned)
    for place in range(len(content)):
        for value in (0, 255):
            damaged = content[:place] + bytes([value]) + content[place + 1 :]
            _agree(damaged)


def _agree(content: bytes) -> None:
    """Expect that an image is measured and decoded alike, or refused by both."""
    try:
        size = measure(content)
    except EngineFailure:
        return  # Its sums are checked here alone.
    assert decode(content).shape == (size[1], size[0], 3)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "WEBP"])
def test_what_is_measured_can_be_decoded(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker" * 4
    content = encoded(Image.fromarray(PIXELS), kind, exif=exif)
    draw = np.random.default_rng(0)
    for _ in range(400):
        damaged = bytearray(content)
        for place in draw.integers(0, min(300, len(damaged)), 2):
            damaged[place] = draw.choice([0, 3, 255])
        _agree(bytes(damaged))


def test_greys_get_three_channels() -> None:
    grey = PIXELS[:, :, 0]
    assert (decode(encoded(Image.fromarray(grey))) == grey[:, :, None]).all()
    deep = np.array([[0, 257, 65535], [128 * 257, 1, 300]], np.uint16)
    assert decode(encoded(Image.fromarray(deep)))[:, :, 0].tolist() == [[0, 1, 255], [128, 0, 1]]
    assert decode(encoded(Image.fromarray(grey > 127)))[:, :, 2].tolist() == ((grey > 127) * 255).tolist()


def test_transparency_comes_out_over_black() -> None:
    image = Image.fromarray(np.dstack([PIXELS, np.full((6, 9), 255, np.uint8)]))
    image.putpixel((0, 0), (255, 255, 255, 0))
    decoded = decode(encoded(image))
    assert decoded[0, 0].tolist() == [0, 0, 0]
    np.testing.assert_array_equal(decoded[1:], PIXELS[1:, :, ::-1])
    palette = Image.fromarray(PIXELS).quantize(8)
    assert decode(encoded(palette, transparency=0)).shape == (6, 9, 3)


def test_the_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(content)[0, 0].tolist() == [0, 0, 255 if decode(content)[0, 0, 2] == 255 else 254]


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe EPSF", b"\xff\xd8\xff\xe0"])
def test_a_file_that_is_not_an_image_is_rejected(content: bytes, tmp_path: Path) -> None:
    refused(content)
    (tmp_path / "x").write_bytes(content)
    refused(tmp_path / "x")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_truncated_image_is_rejected(kind: str, share: float) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8))
    content = encoded(noise, kind)
    refused(content[: int(len(content) * share)])


@given(st.binary(max_size=60), st.integers(0, 200))
def test_damage_is_a_failure_and_nothing_else(noise: bytes, place: int) -> None:
    content = encoded(Image.fromarray(PIXELS))
    damaged = content[:place] + noise + content[place + len(noise) :]
    reason = FailureReason.INVALID_DATA
    try:
        decode(damaged)
    except EngineFailure as failure:
        reason = failure.reason
    assert reason is FailureReason.INVALID_DATA


def test_a_bomb_is_rejected_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_PIXELS", 50)
    assert "9 x 6 pixels" in refused(encoded(Image.fromarray(PIXELS)))


def test_a_large_image_is_accepted() -> None:
    assert decode(encoded(Image.new("1", (4_500, 4_000)))).shape == (4_000, 4_500, 3)
