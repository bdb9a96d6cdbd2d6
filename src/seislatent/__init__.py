"""Latent codes of seismograms.

>>> import seislatent as sl
>>> [row["name"] for row in sl.list() if row["weights"] != "train it"][:3]
['codec/eqcodec_small', 'features/autoencoder_over', 'features/autoencoder_under']

`sl.read` and `sl.write` for files, `sl.list` and `sl.load` for models, `sl.prepare` for conditioning, `sl.evaluate` for judging;
`sl.Waveform` is the record, `sl.Codes` what a code file holds. Each is imported when it is first used.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Codes", "Waveform", "evaluate", "list", "load", "prepare", "read", "write"]

if TYPE_CHECKING:
    from seislatent import evaluate, prepare
    from seislatent.catalog import listing as list
    from seislatent.catalog import load
    from seislatent.io.files import read
    from seislatent.io.miniseed import write
    from seislatent.io.slat import Codes
    from seislatent.waveform import Waveform

_PLACES = {
    "list": "catalog.listing",
    "load": "catalog.load",
    "read": "io.files.read",
    "write": "io.miniseed.write",
    "Codes": "io.slat.Codes",
    "Waveform": "waveform.Waveform",
}
_FOLDERS = ("evaluate", "prepare")


class _Verb(ModuleType):
    """A folder whose function of the same name is what a call of it means: `sl.evaluate(...)`."""

    def __call__(self, *args: Any, **named: Any) -> Any:
        return getattr(self, self.__name__.rpartition(".")[2])(*args, **named)


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:  # how the import system binds a folder to its package
        if name in _FOLDERS and type(value) is ModuleType:
            value.__class__ = _Verb
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _FOLDERS:
        return importlib.import_module(f"seislatent.{name}")
    if name not in _PLACES:
        raise AttributeError(f"module 'seislatent' has no attribute '{name}'")
    module, _, attribute = _PLACES[name].rpartition(".")
    value = getattr(importlib.import_module(f"seislatent.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__():  # type: ignore[no-untyped-def]  # `list` is a verb here
    return sorted({*globals(), *__all__})
