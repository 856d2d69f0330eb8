"""Compares the results of a suite with what is expected of it.

`not_yet/<suite>.txt` has one line per test or pattern (`*` stands for anything), under the name that the run
reports, and the first line that fits a test decides:

    fail <test> | why it cannot pass yet
    any  <test> | why its result says nothing
    skip <test> | why it is not even run; in Python suites only

Invariant: a line that fits no test fails the run, so the lists never name what is not there.
"""

import collections
import fnmatch


class Skipped(Exception):
    """The suite cannot run on this machine; the text says why."""


class Broken(Exception):
    """The suite did not run as it should; the text says why."""


def expectations(path):
    """(kind, pattern, reason) of each line."""
    found = []
    if not path.exists():
        return found
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        rule, _, reason = line.partition(" | ")
        kind, _, pattern = rule.strip().partition(" ")
        if kind not in ("fail", "any", "skip") or not reason.strip():
            raise Broken(f"{path.name}:{number}: expected `fail|any|skip <test> | <reason>`")
        found.append((kind, pattern.strip(), reason.strip()))
    return found


def matches(test, pattern):
    return fnmatch.fnmatchcase(test, pattern.replace("[", "[[]"))


def rule_of(test, rules):
    """The first rule that fits a test, or None."""
    return next((rule for rule in rules if matches(test, rule[1])), None)


def judge(name, results, path, strict=True):
    """Prints what is unexpected; True when nothing is. `results`: test -> passed, failed or skipped."""
    rules = expectations(path)
    unexpected, used, counts = [], set(), collections.Counter()
    for test, outcome in sorted(results.items()):
        rule = rule_of(test, rules)
        kind = rule[0] if rule else ""
        used.add(rule)
        counts[outcome] += 1
        if outcome == "skipped":
            counts["not run"] += kind == "skip"
        elif kind == "any":
            counts["excused"] += outcome == "failed"
        elif rule and outcome == "failed":
            counts["not yet"] += 1
        elif rule and strict:
            unexpected.append(f"{outcome}, though listed as `{kind}` ({rule[2]}): {test}")
        elif outcome == "failed":
            unexpected.append(f"fails: {test}")
    for kind, pattern, _ in sorted(set(rules) - used) if strict else ():
        unexpected.append(f"listed as `{kind}`, but fits no test that another line does not: {pattern}")
    print(summary(counts))
    for line in unexpected:
        print(f"    UNEXPECTED {name}: {line}")
    if not counts["passed"]:
        print(f"    UNEXPECTED {name}: no test passed")
    return not unexpected and counts["passed"] > 0


def summary(counts):
    return (f"    {counts['passed']} passed, {counts['failed']} failed ({counts['not yet']} not yet, "
            f"{counts['excused']} listed as any), {counts['skipped']} skipped ({counts['not run']} listed)")  # fmt: skip
