"""What silos without a declared schema leave open, found before anything is encoded.

`cells` counts a column's distinct cells by file, and `finding` is one thing that was
found. `numbers` and `levels` look at columns of numbers and of texts, `labels` at the
label, `scales` at what differs between files, and `columns` at all of a folder.
`spellings` finds names that are written differently although they may be the same.
`choices` makes the declarations that would settle a finding, and `draft` a schema.json
of them. `table` reads a folder's files and its schema.json.
"""
