"""The programs that describe a task or draft the schema of a folder of tables.

Tasks themselves are in `tfl_research.tasks`.
"""
