# The fixtures are in lib/fixtures.py, for the end-to-end tests and for the tests of the harness itself.
pytest_plugins = ["lib.fixtures", "lib.hostile"]
