"""Lengths of longest common subsequences, many pairs at a time.

The row of the dynamic programme is kept as bits of one integer (Hyyrö 2004, "Bit-parallel LCS-length computation
revisited"): bit j is 0 where the length grows at word j. Sixty-four bits hold nearly every caption; longer ones go
through Python's unbounded integers.
Held by tests/metrics/test_rouge.py.
"""

import numpy as np

BITS = 64
BLOCK = 4096


def lcs_lengths(
    words: np.ndarray, lengths: np.ndarray, ref_words: np.ndarray, ref_lengths: np.ndarray, owner: np.ndarray
) -> np.ndarray:
    """Length of the longest common subsequence of each reference and its candidate.

    Args:
        words: the candidates' word ids, one caption after the other.
        lengths: [P] words of each candidate.
        ref_words: the references' word ids, likewise.
        ref_lengths: [R] words of each reference.
        owner: [R] each reference's candidate.

    Returns:
        [R] int64.
    """
    starts, ref_starts = np.cumsum(lengths) - lengths, np.cumsum(ref_lengths) - ref_lengths
    common = np.zeros(len(owner), dtype=np.int64)
    short = lengths[owner] <= BITS
    # Longest references first: as the step goes on, those that have ended lie at the end and drop out.
    rows = np.flatnonzero(short)[np.argsort(-ref_lengths[short], kind="stable")]
    for block in np.split(rows, range(BLOCK, len(rows), BLOCK)):
        mine = owner[block]
        table = _padded(words, starts[mine], lengths[mine])
        common[block] = _lcs_block(table, lengths[mine], ref_words, ref_starts[block], ref_lengths[block])
    for row in np.flatnonzero(~short):
        a = words[starts[owner[row]] :][: lengths[owner[row]]].tolist()
        common[row] = _lcs_long(a, ref_words[ref_starts[row] :][: ref_lengths[row]].tolist())
    return common


def _padded(words: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """[B, W] int64 candidates, -1 after their end; W a multiple of 8."""
    width = max(8, -(-int(lengths.max(initial=0)) // 8) * 8)
    columns = np.arange(width)
    inside = columns < lengths[:, None]
    table = np.full((len(starts), width), -1, dtype=np.int64)
    table[inside] = words[(starts[:, None] + columns)[inside]]
    return table


def _lcs_block(
    table: np.ndarray, lengths: np.ndarray, ref_words: np.ndarray, ref_starts: np.ndarray, ref_lengths: np.ndarray
) -> np.ndarray:
    row = np.full(len(table), np.iinfo(np.uint64).max, dtype=np.uint64)
    for step in range(int(ref_lengths.max(initial=0))):
        alive = int(np.searchsorted(-ref_lengths, -step, side="left"))
        equal = table[:alive] == ref_words[ref_starts[:alive] + step][:, None]
        match = np.zeros((alive, 8), dtype=np.uint8)
        match[:, : table.shape[1] // 8] = np.packbits(equal, axis=1, bitorder="little")
        hit = row[:alive] & match.view("<u8")[:, 0]
        row[:alive] = (row[:alive] + hit) | (row[:alive] - hit)
    inside = np.where(lengths >= BITS, np.uint64(0), np.uint64(1) << (lengths % BITS).astype(np.uint64)) - np.uint64(1)
    return np.bitwise_count(~row & inside).astype(np.int64)


def _lcs_long(a: list[int], b: list[int]) -> int:
    places: dict[int, int] = {}
    for i, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << i
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        hit = row & places.get(word, 0)
        row = ((row + hit) | (row - hit)) & full
    return len(a) - row.bit_count()
