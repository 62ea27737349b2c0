"""Specifications of the algorithms with one global model; without TensorFlow."""
