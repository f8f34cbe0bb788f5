#!/usr/bin/env python3
"""Judges one Autobahn report: gate.py INDEX_JSON PART CASES_MIN.

Stricter than the runners, which count NON-STRICT as passed: only OK is good, and INFORMATIONAL
where the case has no right answer. The number of cases is part of the verdict, so that a run
that stopped early does not pass.
"""

import json
import sys

INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}


def judge(path, least):
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    bad = []
    count = 0
    for cases in report.values():
        for case, result in cases.items():
            count += 1
            for field in ("behavior", "behaviorClose"):
                verdict = result[field]
                if verdict == "OK" or (verdict == "INFORMATIONAL" and case in INFORMATIONAL):
                    continue
                bad.append(f"{case} {field}={verdict}")
    return count, bad, count < least


def main():
    path, part, least = sys.argv[1], sys.argv[2], int(sys.argv[3])
    count, bad, short = judge(path, least)
    for line in bad:
        print(f"autobahn {part}: {line}")
    if short:
        print(f"autobahn {part}: only {count} of {least} cases ran")
    failed = len({line.split()[0] for line in bad})
    print(f"autobahn {part}: {count - failed} passed, {failed} failed")
    if part == "strict":
        print(f"autobahn: {count} cases, {failed} bad")
    return bool(bad) or short


if __name__ == "__main__":
    sys.exit(main())
