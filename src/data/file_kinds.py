"""The kind of a file that is no readable photo, by its first bytes: for messages that name the remedy.

Held by tests/data/test_image_io.py.
"""

from collections.abc import Collection

AGAIN = "download the photo again"
CONVERT = "convert it to JPEG"
# Beginning of the file -> kind and remedy.
KINDS: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer in place of the file", "run git lfs pull"),
    (b"/annex/objects/", "a git-annex pointer in place of the file", "run git annex get"),
    (b"<svg", "an SVG drawing", CONVERT),
    (b"<?xml", "an XML text", AGAIN),
    (b"<", "a web page (HTML)", AGAIN),
    (b"{", "a JSON text", AGAIN),
    (b"%pdf", "a PDF document", CONVERT),
    (b"%!ps", "a PostScript document", CONVERT),
    (b"8bps", "a Photoshop file", CONVERT),
    (b"pk\x03\x04", "a zip archive", "unpack it"),
    (b"\x1f\x8b", "a gzip archive", "unpack it"),
    (b"\xff\x0a", "a JPEG XL file", CONVERT),
    (b"\0\0\0\x0cjxl ", "a JPEG XL file", CONVERT),
    (b"\0\x05\x16\x07", "a file of macOS beside the photo (AppleDouble)", "delete it"),
)
# Brand of an ISO media file (bytes 8 to 12) -> Pillow's format; other brands are videos.
BRANDS = dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIF")
BRANDS |= {b"avif": "AVIF", b"avis": "AVIF"}
MEDIA = {
    "HEIF": f"is an HEIC photo; install pillow-heif or {CONVERT}",
    "AVIF": f"is an AVIF photo; update Pillow or {CONVERT}",
}


def describe_content(data: bytes, formats: Collection[str]) -> str:
    """What a file is that no decoder reads, and the remedy, as words to follow its name.

    Args:
        data: the file's bytes.
        formats: those of Pillow that can be read here.
    """
    if data[4:8] == b"ftyp":
        format = BRANDS.get(data[8:12], "")
        return (
            f"is a broken {format} photo; {AGAIN}"
            if format in formats
            else MEDIA.get(format, "is no photo, but a video")
        )
    start = data[:200].removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")
    for beginning, kind, remedy in KINDS:
        if start.lower().startswith(beginning):
            return f"is no photo, but {kind}; {remedy}"
    return "is no photo" if data.strip(b"\0") else f"holds only zeros; {AGAIN}"
