"""Steps from a record to a record: conditioning, resampling, windows."""

from seislatent.prepare.pipeline import prepare

__all__ = ["prepare"]
