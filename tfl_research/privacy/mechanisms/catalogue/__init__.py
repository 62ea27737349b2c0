"""Mechanisms as settings: parameters, papers, events, and the samplers that fit.

Nothing here imports TensorFlow when it is imported. `privacy.mechanisms` has the
aggregators, which the settings build.
"""
