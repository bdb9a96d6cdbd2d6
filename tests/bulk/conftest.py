"""A picker and a classifier without training, as models, and records with known onsets."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "systems" / "features"))

from small_annotator import Rise

from seislatent.systems.base import Classifier, Embedder


class Loud(nn.Module, Classifier, Embedder):
    """Whether a window holds more than 200 counts; unknown above 20,000."""

    labels = ("noise", "earthquake")
    sampling_rate_hz, samples = 50.0, 1000

    def judge(self, x):
        level = x.nan_to_num(0.0).abs().amax((1, 2))
        loud = (level > 200).float() * 0.8 + 0.1
        return Judged(torch.stack([1 - loud, loud], 1), level > 20_000)

    def classify(self, x):
        return self.judge(x).probabilities

    def embed(self, x):
        return x.abs().mean(2)


@dataclass
class Judged:
    """As a head gives them."""

    probabilities: Any
    unknown: Any


@dataclass
class Loaded:
    """What of `Model` the bulk work needs; unlike it, may hold a system that no catalog knows."""

    system: Any
    name: str
    digest: str = "0123456789abcdef"
    version: str = "0"


@pytest.fixture
def picker():
    return Loaded(Rise().eval(), "features/rise")


@pytest.fixture
def classifier():
    return Loaded(Loud().eval(), "features/loud")
