"""The site's side: training and evaluation by the site's process."""

from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from flower_training import tfl_training

app = ClientApp()


@app.train()
def train(message, context):
    """Trains the model on the site's data."""
    arrays, header = _ask("train", message, context)
    content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": _metrics(header)})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message, context):
    """Evaluates the model on the site's data."""
    _, header = _ask("evaluate", message, context)
    return Message(RecordDict({"metrics": _metrics(header)}), reply_to=message)


def _ask(kind, message, context):
    return tfl_training.ask(
        str(context.node_config["training-socket"]),
        kind,
        message.content["arrays"].to_numpy_ndarrays(),
        round=int(message.content["config"]["server-round"]),
    )


def _metrics(header):
    return MetricRecord({"num-examples": header["examples"], **header["metrics"]})
