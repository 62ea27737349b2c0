"""Pictures in one style, as parts of pages and as files; matplotlib, no screen.

`style` has colours that the colour-blind can tell apart, and the writers. `panels`
says which columns of metrics.csv are drawn together and on which axis, `curves` draws
them, `distributions` draws clients and silos, and `scatter` draws runs.
"""
