"""Fits of spectra: background functions, signal and background together."""
