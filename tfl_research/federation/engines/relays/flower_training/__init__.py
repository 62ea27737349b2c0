"""A Flower app in which Flower averages what our sites train.

`server` is the article's strategy in today's form, and `client` hands the model to the
site's process, which trains it on its data.
"""
