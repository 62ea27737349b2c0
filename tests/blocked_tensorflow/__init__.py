"""What refuses TensorFlow to tests, and to the processes that they start."""
