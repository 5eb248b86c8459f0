"""Rendered scenes of the demo data: shapes before a background, with captions, degradations and comments.

Held by tests/data/test_demo.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

Colour = tuple[int, int, int]
COLOURS: dict[str, Colour] = {
    "red": (214, 38, 38),
    "blue": (38, 70, 214),
    "yellow": (246, 214, 40),
    "orange": (245, 134, 28),
    "purple": (138, 48, 176),
    "white": (246, 246, 246),
    "pink": (246, 140, 186),
}
PLACES = {"sky": "under a blue sky", "field": "in a green field", "sea": "by the sea", "night": "at night"}
DETAIL = 4  # drawn this many times larger, then averaged down: smooth edges


@dataclass(frozen=True)
class Shape:
    """A coloured shape; x, y (its middle) and size in parts of the photo's side."""

    colour: str
    shape: str
    x: float
    y: float
    size: float

    def __str__(self) -> str:
        return f"{'an' if self.colour[0] in 'aeiou' else 'a'} {self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """Two or three things, from left to right or from top to bottom, before a background."""

    background: str
    things: tuple[Shape, ...]
    vertical: bool


def random_scene(rng: np.random.Generator, backgrounds: tuple[str, ...] = tuple(PLACES)) -> Scene:
    """A scene of things that differ in colour and shape."""
    count = 3 if rng.random() < 0.3 else 2
    vertical = bool(rng.random() < 0.5)
    colours = rng.choice(list(COLOURS), count, replace=False)
    shapes = rng.choice(list(SHAPES), count, replace=False)
    size = {2: 0.4, 3: 0.28}[count]
    along = (np.arange(count) + 0.5) / count
    across = rng.uniform(0.4, 0.6) + rng.uniform(-0.06, 0.06, count)
    spots = zip(across, along, strict=True) if vertical else zip(along, across + 0.1, strict=True)
    sizes = size * rng.uniform(0.85, 1.0, count)
    things = [
        Shape(str(colour), str(shape), float(x), float(y), float(part))
        for colour, shape, (x, y), part in zip(colours, shapes, spots, sizes, strict=True)
    ]
    return Scene(str(rng.choice(backgrounds)), tuple(things), vertical)


def render_scene(scene: Scene, side: int, rng: np.random.Generator) -> np.ndarray:
    """The scene as [side, side, 3] uint8 RGB; rng places clouds, grass, waves and stars."""
    large = side * DETAIL
    canvas = BACKGROUNDS[scene.background](large, rng)
    for thing in scene.things:
        centre = np.array([thing.x, thing.y]) * large
        SHAPES[thing.shape](canvas, centre, thing.size * large / 2, COLOURS[thing.colour])
    return cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA)


def scene_captions(scene: Scene, rng: np.random.Generator) -> list[str]:
    """Five descriptions, in Flickr's form."""
    place = PLACES[scene.background]
    first, second = map(str, scene.things[:2])
    everything = f"{', '.join(map(str, scene.things[:-1]))} and {scene.things[-1]}"
    forth, back = ("above", "below") if scene.vertical else ("to the left of", "to the right of")
    near = "over" if scene.vertical else "beside"
    stands = rng.choice(["is", "can be seen"])
    texts = [
        f"{first} {stands} {forth} {second} {place}",
        f"{second} {stands} {back} {first} {place}",
        f"there is {everything} {place}",
        f"{everything} {place}",
        str(rng.choice([f"{first} {near} {second}", f"{first} is {forth} {second}"])),
    ]
    return [f"{text[0].upper()}{text[1:]} ." for text in texts]


# mos -> degradation -> comments

MOS = (1.0, 9.0)
ADJECTIVES = {"blur": "blurry", "noise": "noisy", "blocks": "blocky", "dark": "dark", "pale": "pale"}
REMARKS = {
    "blur": "the edges are {level} soft",
    "noise": "the coloured grains are {level} strong",
    "blocks": "the compression is {level} strong",
    "dark": "the light is {level} dim",
    "pale": "the colours are {level} faded",
}


def degradation_strength(mos: float) -> float:
    """How strong the degradation is, from 0 at the best mos to 1 at the worst."""
    return (MOS[1] - mos) / (MOS[1] - MOS[0])


def degrade(photo: np.ndarray, kind: str, mos: float, rng: np.random.Generator) -> np.ndarray:
    """The photo [H, W, 3] uint8 with one degradation, as strong as its mos says."""
    s = degradation_strength(mos)
    pixels = photo.astype(np.float32)
    if kind == "blur":
        cv2.GaussianBlur(pixels, (0, 0), 0.2 + 3.3 * s, dst=pixels)
    elif kind == "noise":
        pixels += rng.normal(0, 70 * s, photo.shape).astype(np.float32)
    elif kind == "blocks":
        code = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, round(2 + 93 * (1 - s) ** 2)])[1]
        pixels[:] = cv2.imdecode(code, cv2.IMREAD_COLOR)
    elif kind == "dark":
        pixels *= 1 - 0.9 * s
    else:
        pixels += (205 - pixels) * 0.9 * s
    return np.clip(pixels, 0, 255).astype(np.uint8)


def quality_comments(kind: str, mos: float, rng: np.random.Generator) -> list[str]:
    """One to three comments on a photo that `degrade` made."""
    s = degradation_strength(mos)
    verdict = ["an excellent", "a good", "a fair", "a poor", "a terrible"][min(int(s * 5), 4)]
    if s < 0.2:
        texts = ["the photo is sharp and clear", f"{verdict} photo with bright colours", "everything is easy to see"]
    else:
        level = ["a little", "quite", "very"][min(int((s - 0.2) / 0.8 * 3), 2)]
        remark = REMARKS[kind].format(level=level)
        texts = [
            f"the photo is {level} {ADJECTIVES[kind]}",
            f"{verdict} photo because {remark}",
            f"{remark} and it is {verdict} photo",
        ]
    count = rng.choice([1, 2, 3], p=[0.4, 0.4, 0.2])
    return [str(text) for text in rng.permutation(texts)[:count]]


# Backgrounds: (side, rng) -> canvas [side, side, 3]


def _gradient(side: int, top: Colour, bottom: Colour) -> np.ndarray:
    down = np.linspace(0, 1, side)[:, None, None]
    return np.ascontiguousarray(np.broadcast_to(top + (np.array(bottom) - top) * down, (side, side, 3)), np.uint8)


def _sky(side: int, rng: np.random.Generator) -> np.ndarray:
    canvas = _gradient(side, (84, 152, 222), (196, 224, 246))
    for x, y in rng.uniform((0, 0.05), (1, 0.9), (5, 2)) * side:
        for dx, dy in rng.normal(0, (0.06, 0.02), (6, 2)) * side:
            cv2.circle(canvas, _at((x + dx, y + dy)), int(side * 0.035), (232, 240, 248), -1, cv2.LINE_AA)
    return canvas


def _field(side: int, rng: np.random.Generator) -> np.ndarray:
    canvas = _gradient(side, (172, 212, 240), (210, 232, 240))
    canvas[side // 3 :] = _gradient(side, (112, 176, 84), (52, 122, 40))[side // 3 :]
    for x, y in rng.uniform((0, 0.36), (1, 1), (260, 2)) * side:
        tip = (x + rng.normal(0, 0.01) * side, y - 0.04 * side)
        cv2.line(canvas, _at((x, y)), _at(tip), (40, int(rng.integers(96, 190)), 36), DETAIL, cv2.LINE_AA)
    return canvas


def _sea(side: int, rng: np.random.Generator) -> np.ndarray:
    canvas = _gradient(side, (180, 214, 238), (224, 234, 236))
    canvas[int(side * 0.3) :] = (34, 108, 150)
    canvas[int(side * 0.8) :] = (226, 204, 152)
    for x, y in rng.uniform((-0.1, 0.32), (1, 0.78), (70, 2)) * side:
        cv2.ellipse(canvas, _at((x, y)), (side // 20, side // 60), 0, 0, 180, (120, 190, 214), DETAIL, cv2.LINE_AA)
    return canvas


def _night(side: int, rng: np.random.Generator) -> np.ndarray:
    canvas = _gradient(side, (8, 10, 38), (34, 32, 74))
    for x, y in rng.uniform(0, 1, (60, 2)) * side:
        cv2.circle(canvas, _at((x, y)), int(rng.integers(1, DETAIL)), (230, 230, 200), -1, cv2.LINE_AA)
    cv2.circle(canvas, _at((0.86 * side, 0.12 * side)), side // 16, (244, 240, 206), -1, cv2.LINE_AA)
    return canvas


BACKGROUNDS: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "sky": _sky,
    "field": _field,
    "sea": _sea,
    "night": _night,
}


# Shapes: (canvas, centre, radius, colour), drawn in place


def _at(point: tuple[float, float] | np.ndarray) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (int(value * factor) for value in colour)
    return red, green, blue


def _polygon(canvas: np.ndarray, centre: np.ndarray, radius: float, points: list, colour: Colour) -> None:
    corners = np.round(centre + np.array(points) * radius).astype(np.int32)
    cv2.fillPoly(canvas, [corners], colour, cv2.LINE_AA)


def _ball(canvas: np.ndarray, centre: np.ndarray, radius: float, colour: Colour) -> None:
    cv2.circle(canvas, _at(centre), int(radius * 0.9), colour, -1, cv2.LINE_AA)
    for turn in (20, 110):
        axes = (int(radius * 0.9), int(radius * 0.25))
        cv2.ellipse(canvas, _at(centre), axes, turn, 0, 360, _shade(colour, 0.6), DETAIL, cv2.LINE_AA)


def _box(canvas: np.ndarray, centre: np.ndarray, radius: float, colour: Colour) -> None:
    _polygon(canvas, centre, radius, [(-0.8, -0.6), (0.5, -0.6), (0.5, 0.8), (-0.8, 0.8)], colour)
    _polygon(canvas, centre, radius, [(-0.8, -0.6), (-0.5, -0.9), (0.8, -0.9), (0.5, -0.6)], _shade(colour, 0.85))
    _polygon(canvas, centre, radius, [(0.5, -0.6), (0.8, -0.9), (0.8, 0.5), (0.5, 0.8)], _shade(colour, 0.6))


def _house(canvas: np.ndarray, centre: np.ndarray, radius: float, colour: Colour) -> None:
    _polygon(canvas, centre, radius, [(-0.75, -0.15), (0.75, -0.15), (0.75, 0.9), (-0.75, 0.9)], colour)
    _polygon(canvas, centre, radius, [(-1, -0.15), (0, -1), (1, -0.15)], (92, 56, 42))
    _polygon(canvas, centre, radius, [(-0.15, 0.3), (0.2, 0.3), (0.2, 0.9), (-0.15, 0.9)], (60, 40, 34))
    for x in (-0.5, 0.5):
        window = [(x - 0.15, 0.05), (x + 0.15, 0.05), (x + 0.15, 0.4), (x - 0.15, 0.4)]
        _polygon(canvas, centre, radius, window, (186, 222, 244))


def _tree(canvas: np.ndarray, centre: np.ndarray, radius: float, colour: Colour) -> None:
    _polygon(canvas, centre, radius, [(-0.14, 0), (0.14, 0), (0.2, 1), (-0.2, 1)], (98, 64, 40))
    for x, y, factor in ((-0.4, -0.1, 0.75), (0.4, -0.1, 0.75), (0, -0.5, 1.0), (0, -0.05, 0.9)):
        middle = centre + np.array((x, y)) * radius
        cv2.circle(canvas, _at(middle), int(radius * 0.45), _shade(colour, factor), -1, cv2.LINE_AA)


def _star(canvas: np.ndarray, centre: np.ndarray, radius: float, colour: Colour) -> None:
    angles = np.arange(10) * np.pi / 5 - np.pi / 2
    lengths = np.where(np.arange(10) % 2, 0.42, 1.0)
    _polygon(canvas, centre, radius, list(zip(np.cos(angles) * lengths, np.sin(angles) * lengths, strict=True)), colour)


def _car(canvas: np.ndarray, centre: np.ndarray, radius: float, colour: Colour) -> None:
    _polygon(canvas, centre, radius, [(-1, 0), (1, 0), (1, 0.45), (-1, 0.45)], colour)
    _polygon(canvas, centre, radius, [(-0.6, 0), (-0.4, -0.45), (0.4, -0.45), (0.7, 0)], _shade(colour, 0.8))
    _polygon(canvas, centre, radius, [(-0.42, -0.05), (-0.3, -0.35), (0.32, -0.35), (0.5, -0.05)], (200, 226, 240))
    for x in (-0.55, 0.55):
        wheel = _at(centre + np.array((x, 0.45)) * radius)
        cv2.circle(canvas, wheel, int(radius * 0.26), (30, 30, 30), -1, cv2.LINE_AA)
        cv2.circle(canvas, wheel, int(radius * 0.1), (190, 190, 190), -1, cv2.LINE_AA)


def _kite(canvas: np.ndarray, centre: np.ndarray, radius: float, colour: Colour) -> None:
    _polygon(canvas, centre, radius, [(0, -1), (0.6, -0.2), (0, 0.6)], colour)
    _polygon(canvas, centre, radius, [(0, -1), (-0.6, -0.2), (0, 0.6)], _shade(colour, 0.75))
    tail = np.array([(0, 0.6), (0.15, 0.72), (-0.1, 0.85), (0.12, 1)]) * radius + centre
    cv2.polylines(canvas, [np.round(tail).astype(np.int32)], False, _shade(colour, 0.6), DETAIL + 2, cv2.LINE_AA)


SHAPES: dict[str, Callable[[np.ndarray, np.ndarray, float, Colour], None]] = {
    "ball": _ball,
    "box": _box,
    "house": _house,
    "tree": _tree,
    "star": _star,
    "car": _car,
    "kite": _kite,
}
