"""Recorded speech: the prompts of a telephone exchange, one speaker, 8 kHz, with transcripts.

Debian's ``asterisk-core-sounds-en-wav`` has the sound, ``asterisk-core-sounds-en`` the text. Both
are CC-BY-SA 3.0: they are read where installed, and no part of them is copied.
"""

from __future__ import annotations

import gzip
import math
import re
import wave
from pathlib import Path

import torch
from torch import Tensor

SOUNDS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
TRANSCRIPTS = Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
RATE = 8_000
WINDOW, HOP = 256, 80  # samples: 32 ms every 10 ms
MELS = 40
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def prompts(longest_seconds: float) -> list[tuple[Path, str]]:
    """Sound files no longer than this with what they say, in letters a-z, spaces, apostrophes.

    Raises:
        SystemExit: a package is missing; the message says what to install.
    """
    if not SOUNDS.is_dir() or not TRANSCRIPTS.is_file():
        raise SystemExit(
            "no speech: apt install asterisk-core-sounds-en-wav asterisk-core-sounds-en"
        )
    with gzip.open(TRANSCRIPTS, "rt", encoding="utf-8", errors="replace") as file:
        lines = [line.partition(":") for line in file if not line.startswith(";")]
    known = [(SOUNDS / f"{name}.wav", spoken(text)) for name, _, text in lines]
    longest = 2 * RATE * longest_seconds + 44  # bytes, with the header of a wav file
    return [(p, text) for p, text in known if text and p.is_file() and p.stat().st_size <= longest]


def spoken(text: str) -> str:
    """The words of a transcript; nothing if it describes a sound or has longer numbers."""
    if re.search(r"[\[(]|\d\d", text):
        return ""
    words = re.sub(r"\d", lambda digit: f" {DIGITS[int(digit[0])]} ", text.lower())
    return " ".join(re.findall(r"[a-z']+", words))


def log_mel(path: Path) -> Tensor:
    """Log-mel features (frames, MELS), each band with mean 0 and deviation 1."""
    with wave.open(str(path)) as file:
        samples = torch.frombuffer(bytearray(file.readframes(file.getnframes())), dtype=torch.int16)
    spectrum = torch.stft(
        samples / 2**15, WINDOW, HOP, window=torch.hann_window(WINDOW), return_complex=True
    )
    energies = mel_filters() @ spectrum.abs() ** 2
    features = (energies + 1e-6).log().T
    return (features - features.mean(0)) / (features.std(0) + 1e-3)


def mel_filters() -> Tensor:
    """Triangles (MELS, bins) at equal distances on the mel scale, each rising from 0 to 1 to 0."""
    highest = 2595 * math.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, highest, MELS + 2) / 2595) - 1)
    bins = torch.linspace(0, RATE / 2, WINDOW // 2 + 1)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return torch.min(rising, falling).clamp(min=0)
