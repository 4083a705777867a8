"""Counts cmocka's test cases in what ctest wrote with --output-junit; prints "PASSED FAILED".

A skipped case counts as failed, and so does every case that was announced and never reported, and a program that ends
badly although its cases passed (a crash or a leak at its end)."""

import re
import sys
import xml.etree.ElementTree


def count(junit):
    passed = failed = 0
    for program in xml.etree.ElementTree.parse(junit).getroot().iter("testcase"):
        output = program.findtext("system-out") or ""
        good = len(re.findall(r"^\[ +OK \]", output, re.M))
        announced = sum(map(int, re.findall(r"^\[=+\] (?:[^\n]*: )?Running (\d+) test\(s\)", output, re.M)))
        bad = max(announced - good, 0)
        if bad == 0 and (program.get("status") != "run" or announced == 0):
            bad = 1
        if bad:
            print(f"{program.get('name')}: {good} passed, {bad} failed", file=sys.stderr)
        passed, failed = passed + good, failed + bad
    return passed, failed


if __name__ == "__main__":
    print(*count(sys.argv[1]))
