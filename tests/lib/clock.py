"""Another wall clock for a process."""

import pathlib
import re
import subprocess

from .service import BINARY
from .util import SANITIZER


def ahead(directory, seconds):
    """Settings of a process whose clock is ahead (lib/clock.c, which is built in the directory)."""
    library = pathlib.Path(directory) / "clock.so"
    source = pathlib.Path(__file__).with_name("clock.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    linked = subprocess.run(["ldd", BINARY], capture_output=True, text=True, check=True).stdout
    first = re.findall(r"=> (\S*/libasan\S*)", linked)  # a sanitizer must come first among the libraries
    return {"LD_PRELOAD": " ".join([*first, str(library)]), "TIDINGS_TEST_CLOCK_S": seconds}


def clock_can_be_set():
    """None, or why not."""
    return None if SANITIZER in ("", "address") else "not tried with this sanitizer"
