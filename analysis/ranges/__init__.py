"""Where a spectrum is fitted, and at which masses it is hunted in."""
