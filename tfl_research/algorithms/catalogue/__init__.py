"""Specifications of the algorithms that train one global model, without TensorFlow."""
