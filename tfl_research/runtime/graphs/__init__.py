"""TensorFlow graphs and TFF types: what is in them, and changes to them."""
