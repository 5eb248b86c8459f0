"""A photo's mos on a scale, above the histogram of the training photos' mos.
Held by tests/serving/test_page.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from src.inference.predictor import compare_with_training

BARS, BAR_HEIGHT = 30, 44  # number of bars, and pixels of the highest
MARK, BAR, GREY = "#c44e00", "#a9c3e0", "#777"


def mos_scale_html(mos: float, place: float | None, meta: Mapping[str, Any]) -> str:
    """HTML without script or SVG, which Streamlit would remove.

    Args:
        mos: in the training data's units.
        place: part of the training photos with a lower mos, or None.
        meta: the model folder's mos_range (else 0 to 10), mos_mean and mos_percentiles of training; without
            percentiles there are no bars.
    """
    low, high = meta.get("mos_range") or (0.0, 10.0)
    low, high = min(low, mos), max(high, mos)
    position = 100 * (mos - low) / max(high - low, 1e-9)
    bars = "".join(histogram_bar(part) for part in histogram_bars(meta.get("mos_percentiles"), low, high))
    mark = f"left:calc({position:.1f}% - 1px);top:0;width:3px;height:{BAR_HEIGHT + 6}px;background:{MARK}"
    row = f"display:flex;align-items:flex-end;gap:1px;height:{BAR_HEIGHT}px;border-bottom:1px solid {GREY}"
    ends = f"display:flex;justify-content:space-between;color:{GREY};font-size:0.8rem"
    return (
        f'<div style="max-width:380px"><b style="font-size:1.3rem">mos {mos:.2f}</b>&ensp;'
        f'<span style="color:{GREY}">{compare_with_training(place, meta)}</span>'
        f'<div style="position:relative"><div style="padding-top:6px;{row}">{bars}</div>'
        f'<div style="position:absolute;border-radius:2px;{mark}"></div></div>'
        f'<div style="{ends}"><span>{low:.1f}</span><span>{high:.1f}</span></div></div>'
    )


def histogram_bars(percentiles: Sequence[float] | None, low: float, high: float) -> list[float]:
    """Heights of the histogram's bars from `low` to `high`, relative to the highest."""
    if not percentiles or high <= low:
        return []
    edges = np.linspace(low, high, BARS + 1)
    parts = np.diff(np.interp(edges, percentiles, np.linspace(0, 1, len(percentiles)), left=0, right=1))
    return (parts / parts.max()).tolist()


def histogram_bar(part: float) -> str:
    """HTML of a bar; `part` is its height relative to the highest."""
    return f'<div style="flex:1;height:{BAR_HEIGHT * part:.1f}px;background:{BAR}"></div>'
