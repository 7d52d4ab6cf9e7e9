"""Regions of the space of losses: fixed on held-out events, and what is measured of scores."""
