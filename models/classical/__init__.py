"""Scorers of rows that the field compares with: forests, mixtures, kernels, clusters, one-class networks, plain autoencoders."""
