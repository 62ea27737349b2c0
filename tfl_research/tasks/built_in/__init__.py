"""The toolkit's own tasks, a module each, and what several of them need.

Modules are imported when their task is built. What is not special to one data set is
in `tfl_research.data`; models are in `tfl_research.models`.
"""
