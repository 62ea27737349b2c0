"""Checks that a task's data, model and objective fit together.

`tasks.objectives` has the rules for labels and outputs; `tasks.own_models` checks what
a user gives.
"""
