"""Mass spectra: bins, units, files of others, and the signal's shape."""
