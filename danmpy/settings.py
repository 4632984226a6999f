"""One typed tree of settings, read once: defaults, then the YAML file, then the environment.

Every key of the file is also an environment variable: ``DANMPY_`` and the path in upper case with
``__`` between levels (``intent.path`` is ``DANMPY_INTENT__PATH``); the environment wins.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationError, model_validator

from danmpy.errors import IntentError
from danmpy.settings_file import read_settings_file
from danmpy.settings_groups import (
    AbsolutePath,
    CniSettings,
    ControllerSettings,
    DatabaseSettings,
    DatabaseUrl,
    DevicesSettings,
    Group,
    IntentSettings,
    IpamSettings,
    MetricsSettings,
    NpwgSettings,
    SocketPath,
    VxlanSettings,
    WebhookSettings,
)

DEFAULT_PATH: Final = Path("/etc/danmpy/config.yaml")
CONFIG_VARIABLE: Final = "DANMPY_CONFIG"
PREFIX: Final = "DANMPY_"

_NOT_KEYS: Final = re.compile(r"DANMPY_(CONFIG|FAULT.*|TEST_.*|BENCH_.*)")
"""Variables of ours that are no settings."""

_SERVICE_LINKS: Final = re.compile(
    r"DANMPY_(.*_)?(SERVICE_(HOST|PORT(_.*)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
"""Kubernetes puts these into every pod beside a Service named ``danmpy``; they are no settings."""


class Settings(Group):
    """All settings of one process."""

    database_url: DatabaseUrl = Field(
        default="",
        description="SQLAlchemy URL; empty: the SQLite file danmpy.db under state_dir. "
        "postgresql+psycopg://... for clusters.",
    )
    state_dir: AbsolutePath = Field(
        default=Path("/var/lib/danmpy"),
        description="Folder of the spool, the journal and the default SQLite file; must survive "
        "a restart of the machine.",
    )
    socket: SocketPath = Field(
        default=Path("/run/danmpy/cni.sock"),
        description="The node daemon's socket, mode 0600: who may open it may attach pods.",
    )
    node_name: str = Field(
        default="",
        max_length=253,
        description="This node's name in the intent; empty: the host name, as kubelet does.",
    )
    intent: IntentSettings = IntentSettings()
    vxlan: VxlanSettings = VxlanSettings()
    cni: CniSettings = CniSettings()
    npwg: NpwgSettings = NpwgSettings()
    devices: DevicesSettings = DevicesSettings()
    database: DatabaseSettings = DatabaseSettings()
    ipam: IpamSettings = IpamSettings()
    metrics: MetricsSettings = MetricsSettings()
    controller: ControllerSettings = ControllerSettings()
    webhook: WebhookSettings = WebhookSettings()

    @model_validator(mode="before")
    @classmethod
    def _fill_derived(cls, values: dict[str, Any]) -> dict[str, Any]:
        filled = {key: value for key, value in values.items() if value is not None}
        if not filled.get("node_name"):
            filled["node_name"] = socket.gethostname()
        if not filled.get("database_url"):
            state_dir = filled.get("state_dir", cls.model_fields["state_dir"].default)
            filled["database_url"] = f"sqlite:///{state_dir}/danmpy.db"
        return filled

    @property
    def masked_database_url(self) -> str:
        """The database URL as it may be printed: without its password."""
        return mask_url(self.database_url)

    def masked(self) -> Self:
        """The same settings, fit to be printed."""
        return self.model_copy(update={"database_url": self.masked_database_url})

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """What repr() and str() show: everything but the password."""
        for key, value in super().__repr_args__():
            yield key, mask_url(value) if key == "database_url" else value


def mask_url(url: str) -> str:
    """`url` with ``***`` instead of its password, in the authority and in the query."""
    hidden = re.sub(r"(?i)([?&][^=&]*password=)[^&]*", r"\1***", url)
    try:
        parts = urlsplit(hidden)
    except ValueError:
        return re.sub(r"://.*@", "://***@", hidden)
    userinfo, at, host = parts.netloc.rpartition("@")
    user, colon, _ = userinfo.partition(":")
    return hidden.replace(f"//{parts.netloc}", f"//{user}{colon and ':***'}{at}{host}", 1)


def known_keys() -> tuple[str, ...]:
    """Every key with dots between levels: ``database_url``, ``intent.path``, ..."""
    return tuple(_keys_of(Settings, ""))


def _keys_of(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys_of(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def variable_of(key: str) -> str:
    """The environment variable of a key: ``intent.path`` -> ``DANMPY_INTENT__PATH``."""
    return PREFIX + key.upper().replace(".", "__")


def load(environ: Mapping[str, str], config_path: Path | str | None = None) -> Settings:
    """The settings of this process.

    The file is `config_path`, else ``DANMPY_CONFIG``, else /etc/danmpy/config.yaml; only the last
    may be absent.

    Raises:
        IntentError: the file is missing, unreadable or no YAML; a key is unknown or its value
            wrong. The subject is the file with its line, or the variable.
    """
    explicit = config_path or environ.get(CONFIG_VARIABLE)
    path = Path(explicit) if explicit else DEFAULT_PATH
    values, lines = read_settings_file(path, required=bool(explicit))
    origins = {key: f"{path}:{line}" for key, line in lines.items()}
    for key, variable, value in _read_environ(environ):
        group, _, name = key.rpartition(".")
        if group and values.get(group) is None:
            values[group] = {}
        target = values[group] if group else values
        if isinstance(target, dict):  # anything else is refused below, with its line
            target[name] = value
            origins[key] = variable
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise _translate(error, origins, str(path)) from None


def _read_environ(environ: Mapping[str, str]) -> Iterator[tuple[str, str, object]]:
    keys = {variable_of(key): key for key in known_keys()}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX):
            continue
        if variable in keys:
            yield keys[variable], variable, _environ_value(text)
        elif not _NOT_KEYS.fullmatch(variable) and not _SERVICE_LINKS.fullmatch(variable):
            message = "unknown setting"
            raise IntentError(message, hint=_nearest(variable, list(keys)), subject=variable)


def _environ_value(text: str) -> object:
    if text.startswith("["):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _nearest(word: str, known: list[str]) -> str:
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    if not close and "." in word:
        # Right name, wrong or missing group: compare the last parts alone.
        tails = {key.rpartition(".")[2]: key for key in known}
        close = [tails[tail] for tail in get_close_matches(word.rpartition(".")[2], tails, n=1)]
    return f"did you mean {close[0]}?" if close else "known are " + ", ".join(known)


def _translate(error: ValidationError, origins: Mapping[str, str], path: str) -> IntentError:
    """The first problem as ours; pydantic's own text would repeat values that may be secret."""
    problem = error.errors(include_url=False, include_context=False)[0]
    parts = [part for part in problem["loc"] if isinstance(part, str)]
    key = ".".join(parts)
    subject = origins.get(key, path)
    if problem["type"] == "extra_forbidden":
        hint = _nearest(key, list(known_keys()))
        return IntentError(f"unknown setting {key}", hint=hint, subject=subject)
    words = problem["msg"].removeprefix("Value error, ")
    words = words[:1].lower() + words[1:]
    return IntentError(f"{key}: {words}", hint=_hint_of(key), subject=subject)


def _hint_of(key: str) -> str:
    """The description of a key's field, which says meaning and unit."""
    model: type[BaseModel] = Settings
    description = ""
    for name in key.split("."):
        field = model.model_fields.get(name)
        if field is None:
            break
        description = field.description or ""
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            model = field.annotation
            description = "a group with the keys " + ", ".join(model.model_fields)
    return description.rstrip(".").replace("`", "")
