"""tests/chaos/run, once the program is built."""

import json
import pathlib
import shutil
import signal
import sys
import tempfile

from . import options, report
from .stack import Servers
from .storm import Storm


def say(text):
    print(text, flush=True)


def main():
    given = options.parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    directory = pathlib.Path(tempfile.mkdtemp(prefix="tidings-chaos."))
    directory.chmod(0o755)  # Postgres may run as another user; what is secret in there is closed by itself
    say(f"seed {given.seed}; servers and logs in {directory}")
    servers, good = Servers(directory, "pg-full" in given.kinds, given.brokers > 1, given.standby), False
    try:
        servers.start()
        outcome = Storm(servers, directory / "run", f"t{given.seed}-chaos", given, say).run(drop=not given.keep)
        good = report.is_good(outcome)
        if given.json:
            pathlib.Path(given.json).write_text(json.dumps(outcome, indent=1) + "\n")
        say(report.table(outcome))
    finally:
        if given.keep:
            say(f"\nthe servers are left running in {directory}; deps/stack … destroy ends them")
        elif good:
            servers.destroy()
            shutil.rmtree(directory)
        else:
            servers.stop()
            say(f"\nFAILED. What there is to see is kept in {directory}\nto do the same again: {options.replay(given)}")
    if good:
        say("\nall is right")
    return 0 if good else 1


sys.exit(main())
