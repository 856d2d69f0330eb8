"""The published test suites that the conformance run takes part in, by pinned version.

`fast` suites are part of `cargo xtask test`. What each needs of later work stands, by test name, in
`not_yet/<suite>.txt`.
"""

from dataclasses import dataclass, field


@dataclass
class Suite:
    """How one suite is fetched and run."""

    name: str
    kind: str  # "python", "cargo" or "tool"
    version: str = ""
    package: str = ""
    fast: bool = False
    paths: list = field(default_factory=list)  # what pytest is given
    arguments: list = field(default_factory=list)
    seconds: int = 600


SUITES = [
    Suite("amqp", "python", "5.4.2", "amqp", fast=True, paths=["t/integration"],
          arguments=["-p", "no:rerunfailures"]),
    Suite("kombu", "python", "5.7.0", "kombu", fast=True, paths=["t/integration/test_py_amqp.py"],
          arguments=["-p", "no:rerunfailures"]),
    Suite("aiormq", "python", "7.2.4", "aiormq", paths=["tests"], seconds=900),
    Suite("aio-pika", "python", "10.2.1", "aio-pika", paths=["tests"], seconds=1800),
    Suite("lapin", "cargo", "4.12.3", "lapin", seconds=1800,
          arguments=["--no-default-features", "--features", "tokio,smol", "--tests"]),
    Suite("amqprs", "cargo", "2.1.5", "amqprs", seconds=1800, arguments=["--tests"]),
    Suite("amqp-tools", "tool", fast=True),
    Suite("tshark", "tool", fast=True),
]  # fmt: skip
