"""Privacy losses of single mechanisms: Gaussians, subsampled ones, Rényi divergences.

Plain numbers; which round has which loss is said by `accounting.events`.
"""
