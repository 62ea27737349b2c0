"""Bytes between a coordinator and its sites: messages, seals, sockets, carriers.

- `messages`, `plain_json`: tensors and JSON as bytes, in a documented format without
  code.
- `authentication`: who sent a message, for which run, and with which number.
- `sockets`, `carriers`, `relay_carrier`: bytes between coordinator and sites of one
  machine, or to the relay of another engine.
- `exchange`: the coordinator's side of requests and replies.
- `handler`: what does the work of a site, and how a site says no.
"""
