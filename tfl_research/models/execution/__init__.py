"""Turns a model with variables into a function of its weights, state and seed.

What a model does beside its predictions is found here too: random numbers, tables,
examples that are mixed, and weights that no gradient reaches. `models.keras_model` and
`models.tff_models` are the front doors.
"""
