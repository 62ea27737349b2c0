"""Privacy losses and Rényi divergences of Gaussians and sampled Gaussians.

All functions take plain numbers. `accounting.events` has the events with these losses.
"""
