"""Pictures in one style, as parts of pages and as files.

Matplotlib draws them and needs no screen. `style` writes pictures, and has colours that
colour-blind readers can tell apart. `panels` says which columns of metrics.csv are
drawn together and on which axis. `curves` draws columns, `distributions` draws clients
and silos, and `scatter` draws runs.
"""
