import os
import struct
import threading
import time
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from src.data.image_hashes import hash_images
from src.data.image_io import MAX_PIXELS, ImageError, check_image, decode_image, jpeg_size, load_image, png_size


def smooth(height: int = 48, width: int = 64) -> np.ndarray:
    """A photo without hard edges, so that JPEG changes it little: red rises to the right, green downwards."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 3, y * 4, 255 - x * 3], axis=2).astype(np.uint8)


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def near(got: np.ndarray, wanted: np.ndarray, tolerance: float = 3.0) -> bool:
    assert got.dtype == np.uint8
    assert got.shape == wanted.shape
    return float(np.abs(got.astype(int) - wanted.astype(int)).mean()) <= tolerance


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM"])
def test_colour_photos_are_read_as_rgb(format: str) -> None:
    assert near(decode_image(saved(Image.fromarray(smooth()), format)), smooth())


def test_progressive_and_odd_sized_jpegs() -> None:
    photo = smooth(47, 61)
    data = saved(Image.fromarray(photo), "JPEG", progressive=True, quality=95)
    assert near(decode_image(data), photo)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
def test_grey_becomes_three_equal_channels(format: str) -> None:
    grey = smooth()[:, :, 0]
    got = decode_image(saved(Image.fromarray(grey), format))
    assert (got[:, :, 0] == got[:, :, 1]).all()
    assert (got[:, :, 1] == got[:, :, 2]).all()
    assert near(got[:, :, 0], grey)


def test_cmyk_jpeg_has_the_right_colours() -> None:
    cmyk = Image.fromarray(smooth()).convert("CMYK")
    data = saved(cmyk, "JPEG", quality=95)
    assert jpeg_size(data) is None  # OpenCV is not asked
    assert near(decode_image(data), smooth(), 4)


def test_16_bit_png_keeps_the_high_byte() -> None:
    wide = smooth().astype(np.uint16) * 257
    _, grey = cv2.imencode(".png", wide[:, :, 0])
    _, colour = cv2.imencode(".png", wide[:, :, ::-1])
    assert (decode_image(grey.tobytes())[:, :, 1] == smooth()[:, :, 0]).all()
    assert (decode_image(colour.tobytes()) == smooth()).all()


def test_dark_16_bit_photo_stays_dark() -> None:
    _, data = cv2.imencode(".png", np.full((8, 8), 200, np.uint16))  # 200 of 65,535
    assert decode_image(data.tobytes()).max() == 0


def test_float_tiff_in_0_to_1() -> None:
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    got = decode_image(saved(Image.fromarray(values), "TIFF"))
    assert got.min() == 0
    assert got.max() == 255


def test_alpha_is_laid_on_white() -> None:
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[..., 0] = 200
    rgba[0, 0, 3], rgba[1, 1, 3], rgba[2, 2, 3] = 255, 128, 0
    got = decode_image(saved(Image.fromarray(rgba, "RGBA"), "PNG"))
    assert got[0, 0].tolist() == [200, 0, 0]
    half = 128 / 255  # alpha compositing by its formula
    wanted = np.array([200, 0, 0]) * half + 255 * (1 - half)
    assert np.abs(got[1, 1] - wanted).max() <= 1
    assert got[2, 2].tolist() == [255, 255, 255]


def test_transparent_palette_and_rgb_with_transparent_colour() -> None:
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30, 200, 100, 50] + [0] * 762)
    palette.putpixel((1, 0), 1)
    got = decode_image(saved(palette, "PNG", transparency=0))
    assert got[0, 0].tolist() == [255, 255, 255]
    assert got[0, 1].tolist() == [200, 100, 50]
    keyed = Image.new("RGB", (4, 4), (1, 2, 3))
    data = saved(keyed, "PNG", transparency=(1, 2, 3))
    assert png_size(data) is None
    assert (decode_image(data) == 255).all()


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for format in ("GIF", "PNG", "WEBP"):
        data = saved(frames[0], format, save_all=True, append_images=frames[1:])
        assert near(decode_image(data), np.full((8, 8, 3), (255, 0, 0), np.uint8)), format


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_exif_rotation_is_applied(orientation: int, format: str) -> None:
    photo = smooth()
    # EXIF 2.3, tag 0x112: where row 0 and column 0 of the file are in the upright photo.
    upright = {
        1: photo,
        2: photo[:, ::-1],
        3: photo[::-1, ::-1],
        4: photo[::-1],
        5: photo.transpose(1, 0, 2),
        6: np.rot90(photo, -1),
        7: photo[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(photo),
    }[orientation]
    exif = Image.Exif()
    exif[0x112] = orientation
    assert near(decode_image(saved(Image.fromarray(photo), format, exif=exif)), upright)


def test_wrong_suffix_korean_and_spaces(tmp_path: Path) -> None:
    path = tmp_path / "바다 사진 1.jpg"
    path.write_bytes(saved(Image.fromarray(smooth()), "PNG"))
    assert (load_image(path) == smooth()).all()
    assert check_image(path) is None


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "BMP", "WEBP"])
def test_truncated_files_are_refused(format: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = saved(Image.fromarray(noise), format)
    path = tmp_path / "cut.jpg"
    for part in (0.3, 0.6, 0.9):
        path.write_bytes(data[: int(len(data) * part)])
        with pytest.raises(ImageError, match=r"cut\.jpg: "):
            load_image(path)


def test_download_filled_up_with_zeros_is_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = saved(Image.fromarray(noise), "JPEG")
    with pytest.raises(ImageError):
        decode_image(data[: len(data) // 2] + bytes(len(data) // 2))


def test_jpeg_with_a_thumbnail_that_is_cut_after_it_is_refused() -> None:
    """The thumbnail's own end marker does not count."""
    inner = saved(Image.fromarray(smooth(16, 16)), "JPEG")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = saved(Image.fromarray(noise), "JPEG", exif=b"Exif\0\0" + inner)
    assert jpeg_size(data) == (64, 64)
    with pytest.raises(ImageError):
        decode_image(data[: len(data) // 2])


def test_bytes_after_the_end_do_no_harm() -> None:
    data = saved(Image.fromarray(smooth()), "JPEG", quality=95)
    assert near(decode_image(data + b"phone's own data" * 100), smooth())


def test_what_is_no_photo_is_named(tmp_path: Path) -> None:
    for content in (b"", b"hello", b"\xff\xd8", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF\n"):
        path = tmp_path / "x.jpg"
        path.write_bytes(content)
        with pytest.raises(ImageError, match=r"x\.jpg: "):
            load_image(path)
        assert check_image(path)
    assert "cannot be read" in (check_image(tmp_path / "absent.jpg") or "")
    assert "no regular file" in (check_image(tmp_path) or "")
    assert "cannot be read" in (check_image(tmp_path / "zero\0byte.jpg") or "")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "no regular file" in (check_image(tmp_path / "pipe.jpg") or "")
    assert hash_images([tmp_path / "pipe.jpg", tmp_path / "x.jpg"], tmp_path)[0] is None


def test_random_damage_never_escapes_as_another_error() -> None:
    rng = np.random.default_rng(0)
    for format in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"):
        data = np.frombuffer(saved(Image.fromarray(smooth()), format), np.uint8)
        for _ in range(60):
            broken = data.copy()
            broken[rng.integers(0, len(data), 4)] = rng.integers(0, 256, 4)
            try:
                pixels = decode_image(broken.tobytes())
            except ImageError:
                continue
            assert pixels.ndim == 3
            assert pixels.dtype == np.uint8


def with_size(data: bytes, format: str, side: int) -> bytes:
    """The file with another width and height in its header."""
    if format == "PNG":
        import struct
        import zlib

        head = b"IHDR" + struct.pack(">II", side, side) + data[24:29]
        return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + side.to_bytes(2, "big") * 2 + data[at + 4 :]


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_decompression_bombs_are_refused_before_decoding(format: str) -> None:
    data = with_size(saved(Image.fromarray(smooth()), format), format, 50_000)
    start = time.perf_counter()
    with pytest.raises(ImageError, match="50000 x 50000"):
        decode_image(data)
    assert time.perf_counter() - start < 1  # 7.5 GB of pixels take longer


def test_bombs_in_other_formats_are_refused() -> None:
    side = int(MAX_PIXELS**0.5) + 1
    data = saved(Image.new("1", (side, side)), "GIF")
    with pytest.raises(ImageError, match="pixels"):
        decode_image(data)


def test_errors_pass_between_processes() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(ImageError("a.jpg", "is empty")))
    assert (error.path, error.reason, str(error)) == ("a.jpg", "is empty", "a.jpg: is empty")


def test_fast_and_slow_way_agree_on_a_photo_like_jpeg() -> None:
    photo = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8), (0, 0), 4)
    data = saved(Image.fromarray(photo), "JPEG", quality=90)
    with Image.open(BytesIO(data)) as image:
        assert near(decode_image(data), np.array(image.convert("RGB")), 1)


def test_many_threads_at_once() -> None:
    data = saved(Image.fromarray(smooth()), "JPEG", quality=95)
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(near(decode_image(data), smooth()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 8


P3_PRIMARIES = {
    b"rXYZ": (0.51512, 0.2412, -0.00105),
    b"gXYZ": (0.29198, 0.69225, 0.04189),
    b"bXYZ": (0.1571, 0.06657, 0.78407),
}
P3_TO_SRGB = np.array([[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]])  # of linear light


def srgb_profile() -> bytearray:
    return bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())


def p3_profile() -> bytes:
    """The profile of sRGB with the primaries of Display P3, whose tone curve is the same."""
    profile = srgb_profile()
    for i in range(struct.unpack_from(">I", profile, 128)[0]):
        tag, at, _ = struct.unpack_from(">4sII", profile, 132 + 12 * i)
        if tag in P3_PRIMARIES:
            struct.pack_into(">3i", profile, at + 8, *(round(65536 * value) for value in P3_PRIMARIES[tag]))
    return bytes(profile)


def from_p3(colour: np.ndarray) -> np.ndarray:
    """A colour of Display P3 in sRGB, by the formulas of IEC 61966-2-1."""
    encoded = colour / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    linear = np.clip(P3_TO_SRGB @ linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_a_colour_profile_is_converted_to_srgb(format: str) -> None:
    colour = np.array([190, 110, 80])
    photo = Image.new("RGB", (32, 32), tuple(colour.tolist()))
    got = decode_image(saved(photo, format, quality=98, icc_profile=p3_profile()))
    assert np.abs(got.mean((0, 1)) - from_p3(colour)).max() < 3
    assert np.abs(from_p3(colour) - colour).max() > 8


@pytest.mark.parametrize(
    "profile", [bytes(srgb_profile()), b"no profile", p3_profile()[:200]], ids=["srgb", "text", "cut"]
)
def test_srgb_and_broken_profiles_change_nothing_and_leave_decoding_to_opencv(profile: bytes) -> None:
    photo = Image.fromarray(smooth())
    jpeg, png = (saved(photo, format, icc_profile=profile) for format in ("JPEG", "PNG"))
    assert jpeg_size(jpeg) == png_size(png) == photo.size
    assert (decode_image(jpeg) == decode_image(saved(photo, "JPEG"))).all()
    assert (decode_image(png) == smooth()).all()


def test_a_grey_photo_with_a_profile_of_colours_stays_grey() -> None:
    data = saved(Image.fromarray(smooth()[:, :, 0]), "JPEG", icc_profile=p3_profile())
    assert near(decode_image(data), np.repeat(smooth()[:, :, :1], 3, axis=2))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\n<!DOCTYPE HTML><html><body>sign in</body></html>", "a web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML"),
        (b'{"error": "no such photo"}', "JSON"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "run git lfs pull"),
        (b"404: Not Found", "is no photo"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "HEIC|HEIF"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1" + bytes(99), "AVIF"),
        (b"\0\0\0\x18ftypisom" + bytes(99), "a video"),
        (bytes(999), "only zeros"),
        (b"\x13\x88\x99" * 99, "is no photo"),
    ],
)
def test_a_file_of_another_kind_is_named(content: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode_image(content)
