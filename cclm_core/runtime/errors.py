"""Errors that a user can cause. Each message gives what is wrong, the value, and what to do.

```
CclmError
├── ConfigError        an unknown key, a value out of range, a section that is missing
│   └── MissingExtraError an optional dependency that is not installed
├── DataError          a source, a record or a corpus that cannot be used
│   └── IntegrityError a checksum or digest that does not match
├── ArtifactError      a published folder that is missing, incomplete or of another kind
├── CompositionError   parts that do not belong together: other base, other vocabulary
├── ShelfError         a shelf that cannot be reached, read or written, or does not hold what was asked for
└── TrainingError      a run that cannot go on: a non-finite loss, a locked output
```

A broken invariant of our own is an `assert`, not one of these.
"""


class CclmError(Exception):
    """Base of all errors that a user can cause."""


class ConfigError(CclmError):
    """The configuration is wrong."""


class MissingExtraError(ConfigError):
    """An optional dependency is not installed."""


class DataError(CclmError):
    """The input data cannot be used."""


class IntegrityError(DataError):
    """Bytes differ from what their checksum promises."""


class ArtifactError(CclmError):
    """A folder that should hold a published artifact does not."""


class CompositionError(CclmError):
    """The parts cannot be composed."""


class ShelfError(CclmError):
    """A shelf cannot be reached, read or written, or does not hold what was asked for."""


class TrainingError(CclmError):
    """Training cannot go on."""
