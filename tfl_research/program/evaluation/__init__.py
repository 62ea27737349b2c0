"""Evaluation of global and personal models, and selection of the best model.

`program` exports the public names: `program.Evaluator`, `program.Evaluation`.
"""
