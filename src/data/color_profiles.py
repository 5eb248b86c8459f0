"""Colour profiles (ICC) of images: conversion to sRGB, the colours of nearly all photos and of the backbones' training.

Held by tests/data/test_image_io.py.
"""

import zlib
from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
MAX_BYTES = 2**23  # of a profile; those of printers have 2 MB
TOLERANCE = 2  # levels of 255 by which profiles of sRGB differ from each other


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An image of mode L, RGB or CMYK as RGB in sRGB. A profile that is broken or of other channels is ignored."""
    transform = srgb_transform(profile, image.mode) if profile else None
    return image.convert("RGB") if transform is None else transform.apply(image)


@lru_cache(maxsize=64)
def srgb_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The conversion of a mode's pixels to sRGB. None where it changes nothing, or the profile cannot be used."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        transform = ImageCms.buildTransform(source, SRGB, mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    return None if mode != "CMYK" and _changes_nothing(transform, mode) else transform


def png_profile(chunk: bytes) -> bytes:
    """The profile of a PNG's chunk iCCP; empty where it is broken."""
    packed = chunk.partition(b"\0")[2][1:]
    try:
        return zlib.decompressobj().decompress(packed, MAX_BYTES)
    except zlib.error:
        return b""


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether greys, or colours over the whole range, stay what they are."""
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)
    probe = Image.fromarray(colours if mode == "RGB" else np.arange(256, dtype=np.uint8)[None])
    before, after = (np.asarray(image, dtype=np.int16) for image in (probe.convert("RGB"), transform.apply(probe)))
    return int(np.abs(after - before).max()) <= TOLERANCE
