"""The Keras models of the built-in tasks, as functions that build them.

The builders do not depend on data or training. `tasks.built_in` combines the models
with data sets and objectives.
"""
