"""Inspects and changes TensorFlow graphs and TFF types."""
