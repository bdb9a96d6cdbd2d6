"""A system with its weights: streams go in, streams, tables and picks come out."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from seislatent.errors import SeislatentError
from seislatent.systems.base import Codec, System

if TYPE_CHECKING:
    import obspy

    from seislatent.bulk.stream import Features, Picks, Table
    from seislatent.io.slat import Codes
    from seislatent.waveform import Waveform


def parameters(system: System) -> int:
    """How many numbers it learns."""
    return sum(p.numel() for p in system.parameters())


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """A system with its weights, its name, and where both came from. Streams go in and come out; tensors live on `.system`.

    >>> import obspy, seislatent as sl
    >>> model = sl.load("codec/eqcodec_small")
    >>> stream = obspy.read()  # three components of an earthquake, 30 s at 100 Hz
    >>> codes = model.encode(stream, level=4)
    >>> [(trace.id, trace.stats.npts) for trace in model.decode(codes, level=2)]
    [('BW.RJOB..EHZ', 3000), ('BW.RJOB..EHN', 3000), ('BW.RJOB..EHE', 3000)]
    """

    system: System
    name: str
    """The preset, or the system where the weights belong to none."""
    digest: str
    """16 hexadecimal digits of SHA-256 over weights and config: what a code file was made with."""
    about: dict[str, Any] = field(default_factory=dict)
    """As stored with the weights: system, config, version, data, representation, ..."""

    @property
    def config(self) -> Any:
        """The frozen config of the system."""
        return self.system.config

    @property
    def version(self) -> str:
        """The seislatent that made the weights."""
        return str(self.about.get("version", ""))

    def encode(self, stream: obspy.Stream | obspy.Trace | Waveform | Sequence[Waveform], level: int | None = None) -> Codes:
        """The code of all traces, of the first `level` books (all when None)."""
        from seislatent.systems.codec import stream as codec

        return codec.encode(self._codec(), stream, level)

    def decode(self, codes: Codes, level: int | None = None) -> obspy.Stream:
        """The traces back, with their ids, times and rates, from the first `level` books of what the code holds."""
        from seislatent.systems.codec import stream as codec

        return codec.decode(self._codec(), codes, level)

    def reconstruct(
        self, stream: obspy.Stream | obspy.Trace | Waveform | Sequence[Waveform], level: int | None = None
    ) -> obspy.Stream:
        """The traces after coding and decoding."""
        return self.decode(self.encode(stream, level))

    def annotate(
        self, stream: Any, *, overlap: float | None = None, blinding: int | tuple[int, int] | None = None, stacking: str = "max",
        batch_size: int | None = None, strict: bool = False, flexible_horizontal_components: bool = True,
    ) -> obspy.Stream:  # fmt: skip
        """Probabilities of each phase as traces, of a picker; their channels are named `<system>_<phase>`.

        Args:
            stream: ObsPy stream or trace, or waveforms: any rate, length and order of components, gaps, several stations.
            overlap: of windows, in samples at the picker's rate, or below 1 as a share; None for what gives each sample once.
            blinding: samples at both ends of a window that do not count, or one number each; None for what lacks its context.
            stacking: where windows overlap, "max" or "avg".
            batch_size: windows at once.
            strict: leave out what does not have all three components; else missing ones are masked.
            flexible_horizontal_components: components 1 and 2 stand for N and E.
        """
        from seislatent.bulk import stream as streams

        settings = streams.settings_of(
            streams.annotator_of(self).eval(), {}, overlap=overlap, blinding=blinding, stacking=stacking, batch_size=batch_size,
            strict=strict, flexible_horizontal_components=flexible_horizontal_components,
        )  # fmt: skip
        return streams.annotated(self, stream, settings)

    def classify(
        self, stream: Any, *, overlap: float | None = None, blinding: int | tuple[int, int] | None = None, stacking: str = "max",
        batch_size: int | None = None, strict: bool = False, flexible_horizontal_components: bool = True, **thresholds: float,
    ) -> Picks:  # fmt: skip
        """Picks of a stream, in `.picks`; arguments as of `annotate`, and `P_threshold`, `S_threshold` (default: as calibrated)."""
        from seislatent.bulk import stream as streams
        from seislatent.systems.base import Annotator, Classifier

        if isinstance(self.system, Classifier) and not isinstance(self.system, Annotator):
            raise SeislatentError(f"{self.name} tells labels, not picks: use predict")
        settings = streams.settings_of(
            streams.annotator_of(self), thresholds, overlap=overlap, blinding=blinding, stacking=stacking, batch_size=batch_size,
            strict=strict, flexible_horizontal_components=flexible_horizontal_components,
        )  # fmt: skip
        return streams.picked(self, stream, settings)

    def predict(self, stream: Any, *, window_s: float | None = None, overlap: float = 0.5, whole_s: float = 300.0) -> Table:
        """Labels of a stream, of a classifier: one of each record up to `whole_s`, else one of each window.

        Rows have trace_id, start_time, end_time, label, probability, probabilities; `.to_dataframe()` makes a table of them.
        """
        from seislatent.bulk import stream as streams

        return streams.predicted(self, stream, streams.ClassifySettings(window_s=window_s, overlap=overlap, whole_s=whole_s))

    def embed(self, stream: Any, *, window_s: float | None = None, overlap: float = 0.0) -> Features:
        """Vectors [window latent] of a stream's windows, of an embedder, with the sensor and start of each."""
        from seislatent.bulk import stream as streams

        return streams.embedded(self, stream, streams.ClassifySettings(window_s=window_s, overlap=overlap, whole_s=0.0))

    def _codec(self) -> Model:
        if not isinstance(self.system, Codec):
            raise SeislatentError(f"{self.name} is a {self.about.get('system', type(self.system).__name__)}, not a codec: load one")
        return self

    def __repr__(self) -> str:
        return f"Model({self.name}, {self.digest}, {parameters(self.system):,} parameters)"

    def _repr_html_(self) -> str:
        rows = {"digest": self.digest, "parameters": f"{parameters(self.system):,}", "made by": f"seislatent {self.version}"}
        cells = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(str(v))}</td></tr>" for k, v in rows.items())
        return f"<table><caption>{html.escape(self.name)}</caption>{cells}</table>"
