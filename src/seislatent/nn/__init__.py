"""Bricks that systems share."""
