"""Flower as a carrier: bytes between the coordinator and the sites' processes.

`server` is Flower's ServerApp: it sends the coordinator's requests to the sites.
`client` is a site's ClientApp: it hands each message to the site's process. Flower
starts a process for each message at a site, but the site's own process lives on.
"""
