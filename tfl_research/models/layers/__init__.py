"""Our own operations or gradients for Keras layers, used while a model is traced.

`execution` uses them. Each computes what the layer's own code computes, and leaves
calls that it does not support to that code. `adapters` has layers that users put into
a model.
"""
