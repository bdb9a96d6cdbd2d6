"""What a picker or a classifier is worth, on the labels that records bring with them, or on those of a file of picks.

picks    records --cut at random around P--> cuts --pick--> residuals, precision, recall, by SNR   beside a constant
stream   hours   --without gaps--> stretches --pick_stream or pick--> false picks per station-hour beside a clock
classes  records --classify--> probabilities --> accuracy to F1, ROC, AUC                          beside the majority

Public sets often hold P at one sample of every record (3000 of 9001 in PhaseNet's): a picker that says so is perfect there, and
worth nothing. So every record is cut anew, its P at an even draw, the same for all systems.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seislatent.errors import SeislatentError
from seislatent.evaluate.baselines.picking import PICKERS, stream_picks
from seislatent.evaluate.detect_classes import classes
from seislatent.evaluate.detect_picks import picks as picks_of_records
from seislatent.evaluate.detect_stream import stream
from seislatent.evaluate.judged import command, having
from seislatent.evaluate.report import Report, may_write
from seislatent.systems.base import Classifier, Pick, Picker
from seislatent.waveform import Waveform


class ClassicalPicker(Picker):
    """A picker of `baselines/picking.py` with its defaults."""

    name: str

    def pick(self, waveform: Waveform) -> list[Pick]:
        """At most one P and one S, without a probability."""
        picker: Any = PICKERS[self.name.removeprefix("baseline/")]
        found = picker(waveform)
        both = (("P", found.p_sample), ("S", found.s_sample))
        return [Pick(phase=phase, sample=sample) for phase, sample in both if sample is not None]

    def pick_stream(self, waveform: Waveform) -> list[Pick]:
        """P and S of every trigger in a stretch of any length, with a score."""
        return stream_picks(waveform, self.name.removeprefix("baseline/"))


class StaLta(ClassicalPicker):
    """Recursive STA/LTA."""

    name = "baseline/sta_lta"


class Aic(ClassicalPicker):
    """STA/LTA refined by AIC."""

    name = "baseline/aic"


class ArPick(ClassicalPicker):
    """ObsPy's autoregressive picker."""

    name = "baseline/ar_pick"


def detect(
    systems: Sequence[Any],
    data: str | Path | Sequence[str | Path],
    split: str = "test",
    out: str | Path | None = None,
    *,
    label: str | None = None,
    picks: str | Path | None = None,
    cut_s: float = 25.0,
    lead_s: float = 8.0,
    tolerance_s: float = 0.5,
    seed: int = 0,
    overwrite: bool = False,
) -> Report:
    """As `seislatent.evaluate`: picks of records; with `label` (a column of the records, such as event_type) classes; with `picks`
    (a file of picks) those in continuous records.

    Args:
        systems: Pickers or Classifiers, or models of such systems.
        data: folder or file of records, or several.
        split: as elsewhere.
        out: folder of the report.
        label: column that names the class of each record.
        picks: labels of continuous records: a file of QuakeML, GSE2.0 or CSV, or a folder of such. One of titles alone says that
            every pick is false.
        cut_s: what a picker is given of a record, in s; at least 9 more than `lead_s`.
        lead_s: least time from the beginning of a cut to P, in s; STA/LTA finds nothing in the first 5.
        tolerance_s: a pick this near to an arrival finds it.
        seed: of the random cuts.
        overwrite: replace a report in `out`.
    """
    if out is not None:
        may_write(out, overwrite)
    if label is not None and picks is not None:
        raise SeislatentError("a label is of classes, a file of picks of pickers: give one of the two")
    if label is not None:
        named = having(systems, Classifier, "classify records")
        report = classes(named, data, split, label, command("detect", named, data, split, out, label=label))
    elif picks is not None:
        named = having(systems, Picker, "pick arrivals")
        asked = command("detect", named, data, split, out, picks=picks, tolerance=tolerance_s)
        report = stream(named, data, split, picks, tolerance_s, asked)
    else:
        named = having(systems, Picker, "pick arrivals")
        asked = command("detect", named, data, split, out, cut=cut_s, lead=lead_s, tolerance=tolerance_s, seed=seed)
        report = picks_of_records(named, data, split, cut_s, lead_s, tolerance_s, seed, asked)
    if out is not None:
        report.write(out, overwrite)
    return report
