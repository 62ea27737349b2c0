"""Sends a command to FLARE's server, with an administrator's startup kit.

Runs in FLARE's environment: `python tfl_flare_admin.py KIT USER COMMAND [ARGUMENT]`
with a command of `submit JOB_FOLDER` (prints the job's id), `wait JOB_ID` (until the
job has ended; prints its status), `abort JOB_ID`, `download JOB_ID` (prints the folder)
or `sites` (prints the names that are connected).
"""

import sys
import time

from nvflare.apis.job_def import JobMetaKey
from nvflare.fuel.flare_api.flare_api import new_secure_session


def main(kit, user, command, argument=""):
    """Runs one command and prints its result as the last line."""
    session = new_secure_session(user, kit, timeout=30.0)
    try:
        if command == "sites":
            info = session.get_system_info().client_info
            print(" ".join(sorted(client.name for client in info)))
        elif command == "submit":
            print(session.submit_job(argument))
        elif command == "abort":
            session.abort_job(argument)
        elif command == "download":
            print(session.download_job_result(argument))
        elif command == "wait":
            status = ""
            while not status.startswith(("FINISHED", "FAILED", "ABORTED")):
                time.sleep(0.5)
                status = session.get_job_meta(argument)[JobMetaKey.STATUS.value]
            print(status)
    finally:
        session.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
