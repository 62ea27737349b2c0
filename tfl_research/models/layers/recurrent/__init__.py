"""Our own time loop and gradient for Keras' recurrent layers.

`layers` says which layers of a model get the loop, and replaces their loop while the
model is traced. `loop` is the loop over time and its gradient, `cells` and `gru` have
the steps, and `products` has the products with a recurrent kernel.
"""
