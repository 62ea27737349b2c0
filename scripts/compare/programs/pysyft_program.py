"""PySyft, as its README begins: what comes after needs the two accounts.

Release 0.10 has no federated averaging: a data scientist submits a file for each round,
and each data owner runs it. Both meet in the cloud storage that they log in to.
"""

import syft as sy

scientist = sy.login_ds(email="scientist@example.org")
owners = [sy.login_do(email=f"owner{number}@example.org") for number in range(10)]
for number, owner in enumerate(owners):
    scientist.add_peer(f"owner{number}@example.org")
    owner.approve_peer_request("scientist@example.org")
