"""Programs that the load test builds from package registries, once, into var/tools."""

import shutil
import subprocess

from .shell import PROJECT, say

DIRECTORY = PROJECT / "var/tools"


def build(path, why_not, command, **options):
    """The path, or None after saying why."""
    if shutil.which(command[0]) is None:
        say(f"{why_not}: there is no {command[0]} on this machine")
        return None
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    say(f"building {path.name}, once")
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        say(f"{why_not}: {' '.join(map(str, command))}\n{done.stderr[-2000:]}")
        return None
    return path


def go(directory, package, name):
    """A command of a module that the go.mod in the directory names; go.sum pins it with all that it needs."""
    path = DIRECTORY / name
    if path.exists() and path.stat().st_mtime > (directory / "go.sum").stat().st_mtime:
        return path
    return build(path, f"without {name}", ["go", "build", "-o", str(path), package], cwd=directory)


def cargo(crate, version, name, features=()):
    path = DIRECTORY / "bin" / name
    if path.exists():
        return path
    command = ["cargo", "install", "--locked", "--root", str(DIRECTORY), "--version", version, crate]
    if features:
        command += ["--no-default-features", "--features", ",".join(features)]
    return build(path, f"without {name}", command)
