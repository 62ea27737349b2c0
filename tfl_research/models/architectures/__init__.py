"""The Keras models of the built-in tasks, as functions that build them.

They know nothing of data or training; `tasks.built_in` combines them with both.
"""
