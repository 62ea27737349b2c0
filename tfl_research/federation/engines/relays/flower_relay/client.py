"""The site's side: one message to the site's process, and its reply."""

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

from flower_relay import tfl_relay_frames as frames

app = ClientApp()


@app.query()
def relay(message, context):
    """Hands the message to the process behind the site's socket.

    The SuperNode's own configuration says which site this is and where its socket is:
    `--node-config 'site="NAME" socket="/PATH/site.sock"'`.
    """
    site, path = str(context.node_config["site"]), str(context.node_config["socket"])
    given = message.content.config_records["relay"]
    answer = ConfigRecord({"site": site})
    if "message" in given:
        answer["reply"] = frames.ask(path, given["message"])
    return Message(RecordDict({"relay": answer}), reply_to=message)
