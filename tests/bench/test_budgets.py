"""The hot paths keep to their budgets of instructions."""

import pathlib
import subprocess

import pytest


@pytest.mark.timeout(300)  # it builds the release once more, beside other tests
def test_budgets():
    done = subprocess.run([pathlib.Path(__file__).with_name("run")], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
