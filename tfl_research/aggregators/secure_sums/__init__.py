"""Aggregators that need only sums of clients' values, computed by TFF's secure sums.

`formats` chooses fixed-point formats, without TensorFlow. `summation` computes secure
sums, and `averaging` computes means from them. All sums are modular, and the modulus is
a power of two.
"""
