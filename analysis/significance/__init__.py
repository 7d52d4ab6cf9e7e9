"""From fits to p-values: local, combined, global."""
