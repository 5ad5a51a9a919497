"""Errors that a user can cause. Each message states what is wrong, the value, and what to do.

```
CclmError
├── ConfigError        an unknown key, a value out of range, a missing section
│   └── MissingExtraError  an optional dependency that is not installed
├── DataError          a source, a record or a corpus that cannot be used
│   └── IntegrityError a checksum or digest that does not match
├── ArtifactError      a published folder that is missing, incomplete or of the wrong kind
├── CompositionError   parts that do not fit together, such as components of different bases
├── ShelfError         a shelf that cannot be reached, read or written, or lacks the requested item
└── TrainingError      a training that cannot continue: a non-finite loss, a locked output
```

A broken internal invariant is an `assert`.
"""


class CclmError(Exception):
    """Base class of all errors that a user can cause."""


class ConfigError(CclmError):
    """The configuration is invalid."""


class MissingExtraError(ConfigError):
    """An optional dependency is not installed."""


class DataError(CclmError):
    """The input data cannot be used."""


class IntegrityError(DataError):
    """Data does not match its checksum."""


class ArtifactError(CclmError):
    """A folder does not contain the expected artifact."""


class CompositionError(CclmError):
    """The parts cannot be composed."""


class ShelfError(CclmError):
    """A shelf cannot be reached, read or written, or lacks the requested item."""


class TrainingError(CclmError):
    """A training cannot continue."""
