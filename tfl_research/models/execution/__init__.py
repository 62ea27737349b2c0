"""Turns a model with variables into a function of its weights, state and seed.

This package also finds what a model does beside its predictions: whether it draws
random numbers, uses tables or mixes examples, and which weights no gradient reaches.
`models.keras_model` and `models.tff_models` are the front doors.
"""
