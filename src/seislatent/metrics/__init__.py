"""Measures of traces: frozen records, one value per trace, never averaged inside."""
