"""Keras' recurrent layers with a loop and a gradient of our own.

`layers` says which layers of a model get the loop, and puts it in their place while the
model is traced. `loop` is the loop over time and its gradient, `cells` and `gru` have
the steps, and `products` the products with a recurrent kernel.
"""
