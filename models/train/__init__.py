"""The one training loop, its checkpoints, and what is added to a loss."""
