"""Densities of rows: flows and VAEs, and QUAK's space of them."""
