"""Photos as people have them -> uint8 RGB.

OpenCV decodes the common case (8-bit JPEG or PNG, grey or RGB), Pillow all others. OpenCV fills a truncated file up
without a word, so only files that are whole by their markers go to it.
"""

import importlib.util
import struct
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, features

from src.common.files import stat_file
from src.data.color_profiles import png_profile, srgb_transform, to_srgb
from src.data.file_kinds import describe_content

MAX_PIXELS = 100_000_000
# Suffix -> Pillow's format. Not all of these: some start other programs (EPS) or hold no photos.
FORMAT_OF = dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG") | {".png": "PNG", ".bmp": "BMP", ".dib": "DIB"}
FORMAT_OF |= {".gif": "GIF", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF", ".jp2": "JPEG2000"}
FORMAT_OF |= dict.fromkeys((".ppm", ".pgm"), "PPM")
if features.check("avif"):
    FORMAT_OF[".avif"] = "AVIF"
if importlib.util.find_spec("pillow_heif"):
    importlib.import_module("pillow_heif").register_heif_opener()
    FORMAT_OF |= dict.fromkeys((".heic", ".heif", ".hif"), "HEIF")
SUFFIXES, FORMATS = tuple(FORMAT_OF), tuple(dict.fromkeys(FORMAT_OF.values()))
PNG = b"\x89PNG\r\n\x1a\n"


class ImageError(ValueError):
    """A file that is no photo, is cut short or too large. The message names the file and the reason."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple:
        return type(self), (self.path, self.reason)


def load_image(path: Path) -> np.ndarray:
    """A photo's pixels [H, W, 3], uint8 RGB, upright.

    Grey, CMYK, 16-bit, palette and transparent photos (laid on white) become RGB; a colour profile, such as Display
    P3, is converted to sRGB; EXIF rotation is applied; of an animation the first frame is taken; the suffix does not
    matter.

    Raises:
        ImageError: missing, no regular file, no photo, truncated, or of more than MAX_PIXELS pixels.
    """
    try:
        stat_file(path)
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(path, f"cannot be read ({error.strerror})") from error
    return decode_image(data, path)


def decode_image(data: bytes, path: Path | str = "photo", most: int = MAX_PIXELS) -> np.ndarray:
    """As load_image, from a file's bytes of at most `most` pixels; `path` is for the error's message only."""
    if not data:
        raise ImageError(path, "is empty")
    size = jpeg_size(data) if data[:2] == b"\xff\xd8" else png_size(data) if data[:8] == PNG else None
    if size is None:
        if _filled_up(data):
            raise ImageError(path, "is truncated (zeros where its second part should be)")
        return _decode_slow(data, path, most)
    _check_size(*size, path, most)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        pixels = None
    return _decode_slow(data, path, most) if pixels is None else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)


def check_image(path: Path) -> str | None:
    """Why a photo cannot be used, or None where it can."""
    try:
        load_image(path)
    except ImageError as error:
        return error.reason
    return None


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of an 8-bit grey or three-channel JPEG in sRGB that has its end marker, else None.

    Walks the segments of ITU T.81 annex B up to the start of scan. Within the scan FF is followed by 00 or a restart
    marker, so FF D9 after it is the end of the image.
    """
    size, mode, at = None, "RGB", 2
    profile: dict[bytes, bytes] = {}  # its parts by their number
    while at + 10 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if kind == 0xFF:  # padding
            at += 1
            continue
        if kind == 0xDA:
            return size if data.rfind(b"\xff\xd9", at) > 0 and _is_srgb(profile, mode) else None
        (length,) = struct.unpack_from(">H", data, at + 2)
        if kind == 0xE2 and data.startswith(b"ICC_PROFILE\0", at + 4):
            profile[data[at + 16 : at + 17]] = data[at + 18 : at + 2 + length]
        if kind in (0xC0, 0xC1, 0xC2):  # baseline, extended, progressive; others are Pillow's business
            bits, height, width, channels = struct.unpack_from(">BHHB", data, at + 4)
            if bits != 8 or channels not in (1, 3):
                return None
            size, mode = (width, height), "RGB" if channels == 3 else "L"
        at += 2 + length
    return None


def png_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of a whole 8-bit grey or RGB PNG in sRGB, not transparent, rotated or animated, else None."""
    if len(data) < 33:
        return None
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    if bits != 8 or colour not in (0, 2):
        return None
    at = 33
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind in (b"tRNS", b"eXIf", b"acTL"):
            return None
        if kind == b"iCCP" and not _is_srgb(
            {b"": png_profile(data[at + 8 : at + 8 + length])}, "RGB" if colour else "L"
        ):
            return None
        if kind == b"IEND":
            return width, height
        at += 12 + length
    return None


def _is_srgb(profile: dict[bytes, bytes], mode: str) -> bool:
    """Whether a profile, given by its numbered parts, leaves a mode's pixels as they are, or there is none."""
    joined = b"".join(profile[number] for number in sorted(profile))
    return not joined or srgb_transform(joined, mode) is None


def _filled_up(data: bytes) -> bool:
    """Whether this is a JPEG cut short and filled up with zeros, as broken downloads are; Pillow would decode them."""
    return data[:2] == b"\xff\xd8" and not any(data[-16:]) and not data.rstrip(b"\0").endswith(b"\xff\xd9")


def _check_size(width: int, height: int, path: Path | str, most: int) -> None:
    if width * height > most:
        raise ImageError(path, f"has {width} x {height} pixels, more than {most / 1e6:g} million")


def _decode_slow(data: bytes, path: Path | str, most: int) -> np.ndarray:
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
        _check_size(*image.size, path, most)
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image))
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(path, "has far too many pixels") from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(path, describe_content(data, FORMATS)) from error
    except Exception as error:  # Pillow's decoders raise nearly anything on broken files
        raise ImageError(path, f"is truncated or broken ({error})") from error


def _to_rgb(image: Image.Image) -> np.ndarray:
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_to_8_bit(np.asarray(image)))
    elif image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    elif image.mode not in ("L", "CMYK"):
        image = image.convert("RGB")
    return np.array(to_srgb(image, profile))


def _to_8_bit(grey: np.ndarray) -> np.ndarray:
    """Grey values of 16 or 32 bits or floats in 0..1, as uint8."""
    if grey.dtype.kind == "f":
        return np.clip(np.nan_to_num(grey) * (255 if grey.max() <= 1 else 1), 0, 255).astype(np.uint8)
    wide = np.clip(grey.astype(np.int64), 0, None)
    if grey.dtype.itemsize == 2 or wide.max() > 255:
        wide = wide >> (8 if wide.max() < 2**16 else 23)
    return wide.clip(0, 255).astype(np.uint8)
