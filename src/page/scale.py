"""A photo's mos on a scale, over how the training photos' mos are spread."""

from collections.abc import Sequence

import numpy as np

WIDTH, HEIGHT, BASE, BARS = 360, 74, 46, 30


def scale(mos: float, place: float | None, span: Sequence[float] | None, percentiles: Sequence[float] | None) -> str:
    """An SVG and a line of text, as HTML.

    Args:
        mos: in the training data's units.
        place: part of the training photos that lie below, or None.
        span: lowest and highest mos of training; None: 0 to 10.
        percentiles: of the training photos' mos, evenly spaced from the lowest to the highest; None: no bars.
    """
    low, high = span or (0.0, 10.0)
    low, high = min(low, mos), max(high, mos)

    def across(value: float) -> float:
        return 10 + (WIDTH - 20) * (value - low) / max(high - low, 1e-9)

    bars = "".join(bar(across(a), across(b), part) for a, b, part in spread(percentiles, low, high))
    x = across(mos)
    ends = "".join(
        f'<text x="{across(v):.1f}" y="{BASE + 18}" text-anchor="{side}" font-size="11" fill="#777">{v:.1f}</text>'
        for v, side in ((low, "start"), (high, "end"))
    )
    mark = f'<path d="M {x:.1f} {BASE} l -6 12 l 12 0 z" fill="#c44e00"/>'
    line = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="6" y2="{BASE}" stroke="#c44e00" stroke-width="2"/>'
    axis = f'<line x1="10" x2="{WIDTH - 10}" y1="{BASE}" y2="{BASE}" stroke="#999"/>'
    told = f"above {100 * place:.0f} % of the training photos" if place is not None else "of the training photos' range"
    return (
        f'<div style="max-width:{WIDTH}px"><div><b style="font-size:1.3rem">mos {mos:.2f}</b>&ensp;'
        f'<span style="color:#777">{told}</span></div><svg viewBox="0 0 {WIDTH} {HEIGHT}" width="100%" role="img" '
        f'aria-label="mos {mos:.2f} of {low:.1f} to {high:.1f}">{bars}{axis}{line}{mark}{ends}</svg></div>'
    )


def spread(percentiles: Sequence[float] | None, low: float, high: float) -> list[tuple[float, float, float]]:
    """Bars over the scale: from, to, and the part of the training photos in it over the fullest bar's, 0..1."""
    if not percentiles or high <= low:
        return []
    edges = np.linspace(low, high, BARS + 1)
    below = np.interp(edges, percentiles, np.linspace(0, 1, len(percentiles)), left=0, right=1)
    parts = np.diff(below)
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), (parts / parts.max()).tolist(), strict=True))


def bar(start: float, end: float, part: float) -> str:
    """One bar of the histogram, as high as `part` of the room for it."""
    height = (BASE - 6) * part
    return (
        f'<rect x="{start + 0.5:.1f}" y="{BASE - height:.1f}" width="{max(0.5, end - start - 1):.1f}" '
        f'height="{height:.1f}" fill="#0b559f" opacity="0.35"/>'
    )
