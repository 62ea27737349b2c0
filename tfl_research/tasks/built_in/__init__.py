"""The toolkit's own tasks, one module for each task, and shared helpers.

A module is imported when its task is built. `tfl_research.data` has the code that does
not depend on a data set, and `tfl_research.models` has the models.
"""
