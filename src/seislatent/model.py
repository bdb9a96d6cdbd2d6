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
