"""Aggregation by sums alone, over TFF's secure sums.

`formats` has the numbers, without TensorFlow; `summation` adds them up; `averaging` has
the means. Everything here uses modular sums whose modulus is a power of two.
"""
