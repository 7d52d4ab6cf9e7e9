"""Distances between jets: optimal transport, and events against an ensemble."""
