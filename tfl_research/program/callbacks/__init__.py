"""Callbacks: the base class, TensorBoard and MLflow.

`program` exports the public names: `program.Callback`, `program.TensorBoard`.
"""
