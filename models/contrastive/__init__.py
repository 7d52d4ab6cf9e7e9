"""Contrastive learning: encoders whose representation is the same for versions of an event that physics does not tell apart."""
