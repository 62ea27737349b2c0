"""Makes tasks from one tf.data dataset for each client, and from TFF's `ClientData`.

`clients` makes the task, `elements` maps the components of an element to arrays, and
`reading` reads a client's examples. `tasks.tables` and `tasks.arrays` make tasks from
tables and arrays.
"""

from tfl_research.tasks.datasets.clients import from_datasets as from_datasets
