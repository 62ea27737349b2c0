"""Finds what silos without a declared schema leave open, before rows are encoded.

`cells` counts a column's distinct cells by file. `finding` describes one open question.
`numbers` and `levels` look at columns of numbers and of texts, `labels` at the label,
`scales` at differences between files, and `columns` at all columns of a folder.
`spellings` finds different spellings that may mean the same name. `choices` makes the
declarations that would settle a finding, and `draft` makes a schema.json from them.
`table` reads a folder's files and its schema.json.
"""
