"""A Flower app in which Flower averages the models that our sites train.

`server` runs Flower's FedAvg, and `client` hands the model to the site's process, which
trains the model on the site's data.
"""
