"""Tasks of tf.data datasets, one for each client, and of TFF's `ClientData`.

`clients` makes the task, `elements` says which component of an element is which array,
and `reading` reads a client's examples. Tables and arrays are in `tasks.tables` and
`tasks.arrays`.
"""

from tfl_research.tasks.datasets.clients import from_datasets as from_datasets
