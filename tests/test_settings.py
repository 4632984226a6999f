"""Settings: defaults, file, environment, and what people get wrong in them."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from danmpy import settings
from danmpy.errors import IntentError
from danmpy.settings import Settings, known_keys, load, mask_url, variable_of


@pytest.fixture(autouse=True)
def _no_file_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(settings, "DEFAULT_PATH", tmp_path / "absent.yaml")


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


def refusal(environ: dict[str, str], path: Path | None = None) -> IntentError:
    with pytest.raises(IntentError) as caught:
        load(environ, path)
    return caught.value


def test_without_a_file_and_variables_the_defaults_of_the_contract_hold() -> None:
    loaded = load({})
    assert loaded.database_url == "sqlite:////var/lib/danmpy/danmpy.db"
    assert loaded.state_dir == Path("/var/lib/danmpy")
    assert loaded.socket == Path("/run/danmpy/cni.sock")
    assert loaded.node_name == socket.gethostname()
    assert (loaded.intent.source, loaded.intent.kubeconfig) == ("folder", "")
    assert loaded.intent.path == Path("/etc/danmpy/intent")
    assert (loaded.vxlan.flooding, loaded.vxlan.port) == ("unicast", 4789)
    assert loaded.cni.bin_dirs == (Path("/opt/cni/bin"),)
    assert loaded.cni.conf_dir == Path("/etc/cni/net.d")
    assert loaded.cni.naming_scheme == ""
    assert loaded.ipam.cooldown_seconds == 120
    assert loaded.metrics.listen == "127.0.0.1:9464"
    assert loaded.metrics.endpoint == ("127.0.0.1", 9464)


def test_the_keys_that_others_rely_on_are_there() -> None:
    assert set(known_keys()) >= {
        "database_url",
        "state_dir",
        "socket",
        "node_name",
        "intent.source",
        "intent.path",
        "intent.kubeconfig",
        "vxlan.flooding",
        "vxlan.port",
        "cni.bin_dirs",
        "cni.conf_dir",
        "cni.naming_scheme",
        "ipam.cooldown_seconds",
        "metrics.listen",
    }


def test_every_key_says_what_it_means() -> None:
    def fields(model: type) -> list[tuple[str, str | None]]:
        found: list[tuple[str, str | None]] = []
        for name, field in model.model_fields.items():  # type: ignore[attr-defined]
            inner = field.annotation
            if isinstance(inner, type) and hasattr(inner, "model_fields"):
                found += fields(inner)
            else:
                found.append((name, field.description))
        return found

    assert [name for name, text in fields(Settings) if not text] == []


def test_the_environment_wins_over_the_file_and_leaves_its_neighbours_alone(tmp_path: Path) -> None:
    path = write(tmp_path, "node_name: a\nintent:\n  path: /one\n  source: folder\n")
    loaded = load({"DANMPY_INTENT__PATH": "/two", "DANMPY_NODE_NAME": "b"}, path)
    assert loaded.intent.path == Path("/two")
    assert loaded.node_name == "b"


@pytest.mark.parametrize("key", known_keys())
def test_every_key_can_be_set_by_its_variable(key: str) -> None:
    samples = {
        "database_url": "postgresql+psycopg://u@h/d",
        "intent.source": "kubernetes",
        "vxlan.flooding": "multicast",
        "vxlan.port": "8472",
        "cni.naming_scheme": "legacy",
        "cni.check_seconds": "7",
        "cni.gc_seconds": "7",
        "ipam.cooldown_seconds": "7",
        "ipam.claim_seconds": "7",
        "ipam.reclaim_grace_seconds": "7",
        "ipam.retention_days": "7",
        "database.prepare": "False",
        "database.pool_size": "7",
        "ipam.segment_cooldown_seconds": "7",
        "metrics.listen": "[::1]:80",
        "webhook.listen": "[::1]:80",
        "webhook.pods": "warn",
        "npwg.strict": "False",
        "npwg.namespace_isolation": "True",
    }
    value = samples.get(key, "/some/where")
    loaded: object = load({variable_of(key): value})
    for name in key.split("."):
        loaded = getattr(loaded, name)
    shown = ":".join(map(str, loaded)) if isinstance(loaded, tuple) else str(loaded)
    assert shown == value


def test_the_config_variable_names_the_file_and_an_argument_wins(tmp_path: Path) -> None:
    named = write(tmp_path, "node_name: from-variable\n")
    other = tmp_path / "other.yaml"
    other.write_text("node_name: from-argument\n")
    environ = {"DANMPY_CONFIG": str(named)}
    assert load(environ).node_name == "from-variable"
    assert load(environ, other).node_name == "from-argument"


def test_the_database_follows_the_state_folder() -> None:
    loaded = load({"DANMPY_STATE_DIR": "/srv/a b"})
    assert loaded.database_url == "sqlite:////srv/a b/danmpy.db"


def test_folders_of_plugins_are_a_list_or_one_text(tmp_path: Path) -> None:
    wanted = (Path("/a"), Path("/b"))
    assert load({"DANMPY_CNI__BIN_DIRS": "/a:/b"}).cni.bin_dirs == wanted
    assert load({"DANMPY_CNI__BIN_DIRS": '["/a", "/b"]'}).cni.bin_dirs == wanted
    assert load({}, write(tmp_path, "cni: {bin_dirs: [/a, /b]}")).cni.bin_dirs == wanted


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "intent:\n", "node_name:\n"])
def test_a_file_that_says_nothing_is_all_defaults(tmp_path: Path, text: str) -> None:
    assert load({}, write(tmp_path, text)) == load({})


def test_a_missing_default_file_is_fine_and_a_missing_named_one_is_not(tmp_path: Path) -> None:
    load({})
    missing = tmp_path / "gone.yaml"
    for error in (refusal({}, missing), refusal({"DANMPY_CONFIG": str(missing)})):
        assert error.subject == str(missing)
        assert error.exit_code == 2


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "cannot read it" in str(refusal({}, tmp_path))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in str(refusal({}, tmp_path / "binary"))


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("node_name: a\nintnet:\n  path: /x\n", 2, "did you mean intent"),
        ("intent:\n  pth: /x\n", 2, "did you mean intent.path?"),
        ("a: 1\n b: 2\n", 2, "broken YAML"),
        ("node_name: 'x\n", 2, "broken YAML"),
        ("\tnode_name: x\n", 1, "broken YAML"),
        ("vxlan:\n\n  port: 70000\n", 3, "vxlan.port"),
        ("vxlan:\n  flooding: broadcast\n", 2, "unicast"),
        ("ipam:\n  cooldown_seconds: -1\n", 2, "greater than or equal to 0"),
        ("ipam:\n  cooldown_seconds: soon\n", 2, "Seconds before"),
        ("state_dir: here\n", 1, "not an absolute path"),
        ("cni:\n  bin_dirs: [bin]\n", 2, "not an absolute path"),
        ("metrics:\n  listen: 9464\n", 2, "host:port"),
        ("node_name: a\nnode_name: b\n", 2, "given twice"),
        ("intent: folder\n", 1, "a group with the keys source, path, kubeconfig"),
        (f"socket: /{'x' * 107}\n", 1, "at most 107 bytes"),
        ("intent_path: /x\n", 1, "did you mean intent.path?"),
    ],
)
def test_a_mistake_in_the_file_is_told_by_file_and_line(
    tmp_path: Path, text: str, line: int, words: str
) -> None:
    path = write(tmp_path, text)
    error = refusal({}, path)
    assert error.subject == f"{path}:{line}"
    assert words in str(error)
    assert "\n" not in str(error)


def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    assert "not a mapping" in str(refusal({}, write(tmp_path, "- a\n")))


def test_an_unknown_variable_names_the_nearest_known_one() -> None:
    error = refusal({"DANMPY_INTENT__PTH": "/x"})
    assert error.subject == "DANMPY_INTENT__PTH"
    assert "did you mean DANMPY_INTENT__PATH?" in error.hint


def test_a_wrong_value_in_a_variable_is_told_by_the_variable() -> None:
    assert refusal({"DANMPY_VXLAN__PORT": "many"}).subject == "DANMPY_VXLAN__PORT"


def test_variables_that_kubernetes_makes_for_a_service_are_no_settings() -> None:
    load(
        {
            "DANMPY_SERVICE_HOST": "10.0.0.1",
            "DANMPY_SERVICE_PORT_HTTPS": "443",
            "DANMPY_PORT": "tcp://10.0.0.1:443",
            "DANMPY_PORT_443_TCP_ADDR": "10.0.0.1",
            "DANMPY_WEBHOOK_PORT_443_TCP": "tcp://10.0.0.1:443",
        }
    )


def test_a_password_is_never_printed() -> None:
    url = "postgresql+psycopg://danm:s3cret@db.example:5432/danm"
    loaded = load({"DANMPY_DATABASE_URL": url})
    assert loaded.database_url == url
    for text in (repr(loaded), str(loaded), loaded.masked().model_dump_json()):
        assert "s3cret" not in text
        assert "danm:***@db.example:5432/danm" in text


def test_a_password_in_a_wrong_url_is_not_repeated() -> None:
    error = refusal({"DANMPY_DATABASE_URL": "postgres://danm:s3cret@db/danm"})
    assert "s3cret" not in str(error)
    assert "postgresql+psycopg://" in str(error)


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("sqlite:////var/lib/danmpy/danmpy.db", "sqlite:////var/lib/danmpy/danmpy.db"),
        ("postgresql+psycopg://u@h/d", "postgresql+psycopg://u@h/d"),
        ("postgresql+psycopg://u:p@h/d", "postgresql+psycopg://u:***@h/d"),
        ("postgresql+psycopg://u:p@q@h/d", "postgresql+psycopg://u:***@h/d"),
        (
            "postgresql+psycopg://h/d?user=u&password=p",
            "postgresql+psycopg://h/d?user=u&password=***",
        ),
        ("postgresql+psycopg://u:p@[bad/d", "postgresql+psycopg://***@[bad/d"),
    ],
)
def test_a_url_is_masked_wherever_the_password_stands(url: str, masked: str) -> None:
    assert mask_url(url) == masked


def test_metrics_can_be_switched_off() -> None:
    assert load({"DANMPY_METRICS__LISTEN": ""}).metrics.endpoint is None


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load({}).node_name = "other"  # type: ignore[misc]
