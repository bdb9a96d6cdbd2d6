"""The families of systems: one folder each, one file per paper."""
