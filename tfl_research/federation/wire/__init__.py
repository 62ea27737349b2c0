"""Bytes between a coordinator and its sites: messages, seals, sockets, carriers.

- `messages`, `plain_json`: tensors and JSON as bytes, in a documented format that
  contains no code.
- `authentication`: who sent a message, for which run, and with which number.
- `sockets`, `carriers`, `relay_carrier`: carry bytes between the coordinator and sites
  on one machine, or to the relay of another engine.
- `exchange`: the coordinator's side of requests and replies.
- `handler`: the interface of a site's work, and how a site refuses a request.
"""
