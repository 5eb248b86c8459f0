"""A photo's mos on a scale, over how the training photos' mos are spread."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

BARS, ROOM = 30, 44  # bars of the histogram, and pixels of height for the fullest
MARK, BAR, FAINT = "#c44e00", "#a9c3e0", "#777"


def mos_scale_html(mos: float, place: float | None, meta: Mapping[str, Any]) -> str:
    """HTML without script or SVG, which Streamlit would take out.

    Args:
        mos: in the training data's units.
        place: part of the training photos that lie below, or None.
        meta: the model folder's mos_range (else 0 to 10), mos_mean and mos_percentiles of training; older ones lack
            the last, and are shown without bars.
    """
    low, high = meta.get("mos_range") or (0.0, 10.0)
    low, high = min(low, mos), max(high, mos)
    at = 100 * (mos - low) / max(high - low, 1e-9)
    mean = f"mean of the training photos: {meta['mos_mean']:.2f}" if meta.get("mos_mean") is not None else ""
    told = f"above {100 * place:.0f} % of the training photos" if place is not None else mean
    bars = "".join(histogram_bar(part) for part in histogram_bars(meta.get("mos_percentiles"), low, high))
    mark = f"left:calc({at:.1f}% - 1px);top:0;width:3px;height:{ROOM + 6}px;background:{MARK};border-radius:2px"
    row = f"display:flex;align-items:flex-end;gap:1px;height:{ROOM}px;border-bottom:1px solid {FAINT};padding-top:6px"
    ends = f"display:flex;justify-content:space-between;color:{FAINT};font-size:0.8rem"
    return (
        f'<div style="max-width:380px"><b style="font-size:1.3rem">mos {mos:.2f}</b>&ensp;'
        f'<span style="color:{FAINT}">{told}</span><div style="position:relative"><div style="{row}">{bars}</div>'
        f'<div style="position:absolute;{mark}"></div></div>'
        f'<div style="{ends}"><span>{low:.1f}</span><span>{high:.1f}</span></div></div>'
    )


def histogram_bars(percentiles: Sequence[float] | None, low: float, high: float) -> list[float]:
    """The histogram's bars from `low` to `high`: the part of the training photos in each, over the fullest bar's."""
    if not percentiles or high <= low:
        return []
    edges = np.linspace(low, high, BARS + 1)
    parts = np.diff(np.interp(edges, percentiles, np.linspace(0, 1, len(percentiles)), left=0, right=1))
    return (parts / parts.max()).tolist()


def histogram_bar(part: float) -> str:
    """One bar, as high as `part` of the room for it."""
    return f'<div style="flex:1;height:{ROOM * part:.1f}px;background:{BAR}"></div>'
