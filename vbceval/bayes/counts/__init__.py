"""Hierarchical models of counts: binomial, Poisson and negative binomial, by nested Laplace."""
