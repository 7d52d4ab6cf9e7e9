"""Energies whose exponential is a density: normalised autoencoders and the chains that draw from them."""
