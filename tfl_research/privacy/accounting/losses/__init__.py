"""Privacy losses and Rényi divergences of Gaussians and sampled Gaussians.

Functions of numbers: the events that have these losses are in `accounting.events`.
"""
