"""Every error that Lorefuse raises on purpose, in one tree.

::

    LorefuseError                 exit code 1: ours, or the world's
    ├── UserError                 exit code 2: the caller can mend it
    │   ├── ConfigError           an unknown key, a value out of range, a file that is not there
    │   ├── DataError             raw data that breaks the contract of a dataset
    │   │   └── LeakError         an artifact that knows later data than its split allows
    │   └── UsageError            a command or call that does not fit the state of the project
    ├── ArtifactError             a half-written, truncated or foreign artifact
    │   └── ChecksumError         bytes that differ from the published checksum
    ├── DivergedError             a training whose loss is no longer finite
    ├── UnreachableError          a server or registry that does not answer
    └── DeployError               a model version that could not be brought to serve
        └── OverdueError          no answer in time, which says nothing about the version

Each message has three parts, as in ``expected …; got …; fix: …``: build it with the keyword arguments.
"""

from __future__ import annotations


class LorefuseError(Exception):
    """Base of all errors; one clear message, never a traceback, at the command line.

    Args:
        message: What went wrong, in one sentence.
        expected: What was expected.
        got: What arrived instead.
        fix: What the reader can do about it, best a command.
    """

    exit_code = 1

    def __init__(
        self, message: str, *, expected: str | None = None, got: str | None = None, fix: str | None = None
    ) -> None:
        self.expected, self.got, self.fix = expected, got, fix
        lines = [message]
        lines += [f"  {name}: {text}" for name, text in (("expected", expected), ("got", got), ("fix", fix)) if text]
        super().__init__("\n".join(lines))


class UserError(LorefuseError):
    """Something the caller can mend."""

    exit_code = 2


class ConfigError(UserError):
    """A configuration that cannot be used."""


class DataError(UserError):
    """Raw data that breaks the contract of a dataset."""


class LeakError(DataError):
    """An artifact whose data cutoff is later than its split allows."""


class UsageError(UserError):
    """A command or call that does not fit the state of the project."""


class ArtifactError(LorefuseError):
    """An artifact that is half-written, truncated or not what it claims to be."""


class ChecksumError(ArtifactError):
    """Bytes that differ from the published checksum."""


class DivergedError(LorefuseError):
    """A training whose loss is no longer a finite number."""


class UnreachableError(LorefuseError):
    """A server, registry or publisher that does not answer."""


class DeployError(LorefuseError):
    """A model version that could not be brought to serve."""


class OverdueError(DeployError):
    """A model that gave no answer in time, or whose queue is full: busy or stuck, and no fault of its version.

    Args:
        model: What was asked.
        message: As for all errors, like the other arguments.
    """

    def __init__(
        self, message: str, *, model: str, expected: str | None = None, got: str | None = None, fix: str | None = None
    ) -> None:
        self.model = model
        super().__init__(message, expected=expected, got=got, fix=fix)
