"""Latent codes of seismograms."""
__version__ = "0.1.0"
