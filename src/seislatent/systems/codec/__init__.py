"""Codecs: a seismogram as tokens, and back."""
