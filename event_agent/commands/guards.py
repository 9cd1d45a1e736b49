"""What may be run at all: the deny and allow lists."""

from __future__ import annotations

from event_agent.errors import CommandError


class Guards:
    """The lists in force; replaced as a whole when the configuration is read again."""

    def __init__(self) -> None:
        self.set((), (), ())

    def set(
        self, api_denylist: tuple[str, ...], api_allowlist: tuple[str, ...], app_denylist: tuple[str, ...]
    ) -> None:
        """From any thread: hold to these lists from now on."""
        self._denied = frozenset(each.lower() for each in api_denylist)
        self._allowed = frozenset(each.lower() for each in api_allowlist)
        self._apps = frozenset(each.lower() for each in app_denylist)

    def check_builtin(self, name: str) -> None:
        """Raises CommandError for a built-in command that is not to be run."""
        self._check(name)

    def check_api(self, verb: str, args: str) -> None:
        """Raises CommandError for an API verb that is not to be run."""
        self._check(verb)

    def _check(self, name: str) -> None:
        key = name.lower()
        if key in self._denied or (self._allowed and key not in self._allowed):
            raise CommandError(f"API command '{name}' is denied")
