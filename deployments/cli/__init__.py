"""The ``fedloom`` command."""
