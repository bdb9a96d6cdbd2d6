"""Packages that only some baselines need."""

from __future__ import annotations

import importlib
from types import ModuleType

from seislatent.errors import SeislatentError


def needed(module: str, coder: str, package: str) -> ModuleType:
    """A module of a package that may not be installed.

    Raises:
        SeislatentError: it is not; says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SeislatentError(
            f"{coder} needs the package {package}, which is not installed: pip install {package}, or 'seislatent[bench]'"
        ) from error
