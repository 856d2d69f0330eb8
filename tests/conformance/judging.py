"""Compares the results of a suite with what is expected of it.

`not_yet/<suite>.txt` has one line per test or pattern (`*` stands for anything):

    fail <test> | why it cannot pass yet
    any  <test> | why its result says nothing
    skip <test> | why it is not run (its own form of name, handed to the runner)
"""

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


def judge(name, results, path, strict=True):
    """Prints what is unexpected; True when nothing is. `results`: test -> passed, failed or skipped."""
    rules = expectations(path)
    unexpected, used, not_yet = [], set(), 0
    for test, outcome in sorted(results.items()):
        rule = next((r for r in rules if r[0] != "skip" and matches(test, r[1])), None)
        if rule:
            used.add(rule)
        if outcome == "skipped" or (rule and rule[0] == "any"):
            continue
        if rule and outcome == "failed":
            not_yet += 1
        elif rule and strict:
            unexpected.append(f"passes, though listed as not yet ({rule[2]}): {test}")
        elif outcome == "failed":
            unexpected.append(f"fails: {test}")
    for kind, pattern, _ in set(rules) - used if strict else ():
        if kind == "fail":
            unexpected.append(f"listed as not yet, but there is no such test: {pattern}")
    counts = {kind: sum(outcome == kind for outcome in results.values()) for kind in ("passed", "failed", "skipped")}
    skipped = counts["skipped"] + sum(kind == "skip" for kind, _, _ in rules)
    print(f"    {counts['passed']} passed, {counts['failed']} failed ({not_yet} not yet), {skipped} skipped")
    for line in unexpected:
        print(f"    UNEXPECTED {name}: {line}")
    if not counts["passed"]:
        print(f"    UNEXPECTED {name}: no test passed")
    return not unexpected and counts["passed"] > 0
