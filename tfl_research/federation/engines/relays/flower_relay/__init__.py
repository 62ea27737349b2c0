"""Flower as a carrier: bytes between the coordinator and the sites' processes.

`server` asks, in Flower's ServerApp, what the coordinator asks over its socket, and
`client`, a site's ClientApp, hands each message to the site's process. Flower starts a
process for each message at a site; the site's own process lives on.
"""
