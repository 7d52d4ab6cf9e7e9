"""P-values and their significance: combined over regions, local and global, by experiments and beyond them."""
