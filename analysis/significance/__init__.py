"""From fits to significances: the hunt and its experiments, and other statistics of the same spectra beside it."""
