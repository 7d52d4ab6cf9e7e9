"""Figures: each takes results and returns a matplotlib figure."""
