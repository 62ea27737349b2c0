"""Keras layers that get operations or a gradient of our own while a model is traced.

`execution` uses them. Each computes what the layer's own code computes, and leaves
calls of other kinds to that code. Layers that users put into a model are in `adapters`.
"""
