"""Every error Deskhand raises on purpose, grouped by what the caller can do about it.

DeskhandError
├── ConfigError        a setting is wrong or missing: a person must change it
│   └── NotThere       what was named doesn't exist, or not for this person
├── NotRunning         a server Deskhand needs is not reachable
├── ModelUnavailable   weights are absent, damaged or won't load
│   └── ModelBusy      as many questions as it takes are waiting: ask again in a moment
├── SignInRefused      not signed in, or not with this password: sign in (again)
│   └── LockedOut      too many attempts: wait
├── QuestionRejected   empty or far too long: ask it differently
├── SourceError        something about one source
│   ├── SourceRefused  its credentials or settings are refused: stop it, tell the admin
│   └── SourceBusy     it is down, slow or rate-limiting: try again later
└── ItemError          one document can't be used: record it, go on with the rest

A message says what happened, that nothing was lost (or what was), and what to
do next; `str(error)` is fit to be shown to a person.
"""

from __future__ import annotations


class DeskhandError(Exception):
    pass


class ConfigError(DeskhandError):
    pass


class NotThere(ConfigError):
    pass


class NotRunning(DeskhandError):
    pass


class ModelUnavailable(DeskhandError):
    pass


class ModelBusy(ModelUnavailable):
    pass


class QuestionRejected(DeskhandError):
    pass


class SignInRefused(DeskhandError):
    pass


class LockedOut(SignInRefused):
    pass


class SourceError(DeskhandError):
    pass


class SourceRefused(SourceError):
    pass


class SourceBusy(SourceError):
    """`retry_after`: seconds the source asked us to wait, if it said."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ItemError(DeskhandError):
    """`permanent`: trying the same revision again can't help (an encrypted file)."""

    def __init__(self, message: str, *, permanent: bool = True) -> None:
        super().__init__(message)
        self.permanent = permanent
