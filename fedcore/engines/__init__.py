"""Engines: the one seam between a laptop and a federation. All give the same bytes."""
