"""Programs that describe a task or draft the schema of a folder of tables.

`tfl_research.tasks` has the tasks.
"""
