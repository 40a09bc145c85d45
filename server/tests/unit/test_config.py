"""Settings: where they come from, what is refused, and what the texts say."""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
from pathlib import Path

import pytest

from jitney.config import ServerSettings, Settings, add_flags, flag_values, load_settings
from jitney.config.key import KEYS, Key
from jitney.config.tritonserver import INSTEAD
from jitney.errors import ConfigError


def parse(*argv: str) -> dict[str, object]:
    """Return the settings that a command line gives."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_flags(parser)
    return flag_values(parser.parse_args(argv))


def write(folder: Path, text: str) -> Path:
    """Write a settings file."""
    file = folder / "jitney.toml"
    file.write_text(text, encoding="utf-8")
    return file


def refusal(
    argv: tuple[str, ...] = (), environ: dict[str, str] | None = None, file: Path | None = None
) -> str:
    """Return the text with which settings are refused."""
    with pytest.raises(ConfigError) as caught:
        load_settings(parse(*argv), environ or {}, file)
    return str(caught.value)


def test_nothing_given_is_the_default_tree() -> None:
    """Without any source, the tree is the one that Settings() makes."""
    assert Settings() == load_settings({}, {})


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    """Each source overrides the weaker ones, setting by setting."""
    file = write(tmp_path, "[devices]\nslots = 5\ncpu_threads = 5\nmax_restarts = 6\n")
    environ = {"JITNEY_DEVICES_SLOTS": "6", "JITNEY_DEVICES_CPU_THREADS": "6"}

    devices = load_settings(parse("--slots", "7"), environ, file).devices

    assert (7, 6, 6, 60.0) == (
        devices.slots,
        devices.cpu_threads,
        devices.max_restarts,
        devices.batch_timeout_seconds,
    )


def test_every_setting_has_its_own_flag_variable_and_help() -> None:
    """No two settings share a name, and none is without help or bounds."""
    assert len(KEYS) == len({key.flag for key in KEYS}) == len({key.variable for key in KEYS})
    for key in KEYS:
        assert key.setting.help
        assert key.expected


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.path)
def test_every_default_is_a_value_that_its_setting_takes(key: Key) -> None:
    """A default could also have been written by hand."""
    given = key.default
    if isinstance(given, tuple):
        given = [str(item) for item in given]
    assert key.default == key.from_value("auto" if given is None else given)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("--exit-on-error",), True),
        (("--exit-on-error=true",), True),
        (("--exit-on-error", "false"), False),
        (("--exit-on-error=0",), False),
    ],
)
def test_a_boolean_flag_takes_a_value_or_none(argv: tuple[str, ...], *, expected: bool) -> None:
    """Triton's spelling with a value works beside the bare flag."""
    assert expected == load_settings(parse(*argv), {}).repository.exit_on_error


def test_model_repository_may_be_repeated() -> None:
    """Each use of the flag adds a folder; the variable separates them as PATH does."""
    flags = parse("--model-repository", "a", "--model-repository=b")
    environ = {"JITNEY_REPOSITORY_MODEL_REPOSITORY": "c:d"}

    assert (Path("a"), Path("b")) == load_settings(flags, {}).repository.model_repository
    assert (Path("c"), Path("d")) == load_settings({}, environ).repository.model_repository


def test_load_model_may_be_repeated_or_have_commas() -> None:
    """As with Triton, none of the names is lost."""
    mode = "--model-control-mode=explicit"
    several = load_settings(parse(mode, "--load-model=a", "--load-model=b,c"), {})
    everything = load_settings(parse(mode, "--load-model", "*"), {})
    assert "a,b,c" == several.repository.load_model
    assert "*" == everything.repository.load_model


def test_flags_of_tritonserver_are_answered_with_what_to_write_instead() -> None:
    """All that were given at once, with or without a value."""
    argv = ("--log-verbose=1", "--repository-poll-secs", "5", "--grpc-port=1", "--log-verbose")
    expected = """\
flags of tritonserver, which are others here:
  --log-verbose: write --log-level debug
  --repository-poll-secs: write --repository-poll-seconds"""
    assert expected == refusal(argv)


def test_what_is_advised_instead_of_flags_of_tritonserver_exists() -> None:
    """None of them is ours, and the flags that their advice names are."""
    ours = {key.flag for key in KEYS}
    assert set() == ours & INSTEAD.keys()
    advised = {flag for text in INSTEAD.values() for flag in re.findall(r"--[a-z-]*[a-z]", text)}
    assert set() == advised - ours


def test_folders_in_the_file_are_relative_to_it(tmp_path: Path) -> None:
    """A settings file means the same wherever the server is started."""
    file = write(tmp_path, '[repository]\nmodel_repository = ["models", "/srv/models"]\n')

    expected = (tmp_path / "models", Path("/srv/models"))
    assert expected == load_settings({}, {}, file).repository.model_repository


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("--grpc-port", "x"), "--grpc-port: expected a whole number from 0 to 65535, got 'x'"),
        (("--grpc-port", "70000"), "--grpc-port: expected a whole number from 0 to 65535, got"),
        (("--slots", "1_0"), "--slots: expected a whole number from 3 to 16, got '1_0'"),
        (("--max-queue-delay-ms", "nan"), "--max-queue-delay-ms: expected a number from 0 to"),
        (("--max-queue-delay-ms", "auto"), "--max-queue-delay-ms: expected a number from 0 to"),
        (("--drain-delay-seconds", "-1"), "--drain-delay-seconds: expected a number from 0 to"),
        (("--metrics", "maybe"), "--metrics: expected true or false, got 'maybe'"),
        (("--log-level", "loud"), "--log-level: expected one of debug, info, warning, error, got"),
        (("--device", "gpu"), "--device: expected auto, cpu, cuda, or a list such as cuda:0"),
        (("--device", "cuda:0\n"), "--device: expected auto, cpu, cuda"),
        (("--device", "cuda:1,cuda:1"), "devices.device: cuda:1 is listed more than once"),
        (("--model-repository", ""), "--model-repository: expected one or more folders"),
        (("--mode", "fast"), "--mode: expected one of latency, efficiency, got 'fast'"),
        (("--default-priority", "0"), "--default-priority: expected a whole number from 1 to 3"),
        (("--tenant-metadata-key", "X-Tenant"), "--tenant-metadata-key: expected a metadata key"),
        (("--tenant-metadata-key", "t-bin"), "--tenant-metadata-key: expected a metadata key"),
        (("--tenant-metadata-key", "grpc-x"), "--tenant-metadata-key: expected a metadata key"),
        (("--tenant-weights", "a=2,"), "--tenant-weights: expected tenants and their weights"),
        (("--tenant-weights", "a"), "--tenant-weights: expected tenants and their weights"),
        (("--tenant-weights", "a=-1"), "--tenant-weights: expected tenants and their weights"),
        (
            ("--tenant-weights", "a=1"),
            "limits.tenant_weights: needs --tenant-metadata-key or --tenant-from principal",
        ),
        (
            ("--tenant-metadata-key=t", "--tenant-weights", "a=1,b=2,a=3"),
            "limits.tenant_weights: a is listed more than once",
        ),
        (
            ("--tenant-metadata-key=t", "--tenant-weights", "a=1,b=0.0"),
            "limits.tenant_weights: the weight of b must be above 0",
        ),
    ],
)
def test_a_wrong_flag_is_named_with_what_it_takes(argv: tuple[str, ...], expected: str) -> None:
    """The text says which flag, what it takes and what it got."""
    assert refusal(argv).startswith(expected)


def test_weights_of_tenants_are_read() -> None:
    """Names are any text without spaces, commas and equals signs; nothing is no weights."""
    flags = parse("--tenant-metadata-key=x-tenant", "--tenant-weights=a=2,team/ü=0.5")

    assert {"a": 2.0, "team/ü": 0.5} == load_settings(flags, {}).limits.weights
    assert {} == Settings().limits.weights


def test_a_wrong_variable_is_named() -> None:
    """The text names the variable, not the flag."""
    expected = "JITNEY_DEVICES_SLOTS: expected a whole number from 3 to 16, got '0'"
    assert expected == refusal(environ={"JITNEY_DEVICES_SLOTS": "0"})


def test_a_wrong_value_is_refused_although_it_is_overridden() -> None:
    """A flag does not hide a mistake in the environment."""
    assert "JITNEY_DEVICES_SLOTS" in refusal(("--slots", "2"), {"JITNEY_DEVICES_SLOTS": "0"})


def test_an_unknown_variable_is_refused_with_the_likely_one() -> None:
    """A misspelt variable is never ignored."""
    expected = "JITNEY_SEVER_GRPC_PORT: no such setting; did you mean JITNEY_SERVER_GRPC_PORT?"
    assert expected == refusal(environ={"JITNEY_SEVER_GRPC_PORT": "1"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JITNEY_SERVICE_HOST", "10.0.0.1"),
        ("JITNEY_SERVICE_PORT_GRPC", "8001"),
        ("JITNEY_PORT", "tcp://10.0.0.1:8001"),
        ("JITNEY_PORT_8001_TCP_ADDR", "10.0.0.1"),
        ("JITNEY_SERVER_GRPC_PORT", "tcp://10.0.0.1:8001"),
    ],
)
def test_what_kubernetes_injects_is_not_ours(name: str, value: str) -> None:
    """A Service called jitney does not keep the server from starting."""
    assert Settings() == load_settings({}, {name: value, "OTHER": "x"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[server]\ngrpc_prt = 1", "jitney.toml: server.grpc_prt: no such setting; did you mean"),
        ("[sever]\n", "jitney.toml: sever: no such section; did you mean server?"),
        ("server = 1", "jitney.toml: server: expected a table, [server]"),
        ("[server]\ngrpc_port = '1'", "jitney.toml: server.grpc_port: expected a whole number"),
        ("[server]\ngrpc_port = true", "jitney.toml: server.grpc_port: expected a whole number"),
        ("[server]\ninsecure = 1", "jitney.toml: server.insecure: expected true or false, got 1"),
        ("[server]\ndrain_timeout_seconds = nan", "jitney.toml: server.drain_timeout_seconds:"),
        ("[repository]\nmodel_repository = []", "jitney.toml: repository.model_repository:"),
        ("[server", "jitney.toml: not TOML:"),
    ],
)
def test_a_wrong_file_is_named_with_the_path_of_the_key(
    tmp_path: Path, text: str, expected: str
) -> None:
    """The text says which key of which file."""
    assert refusal(file=write(tmp_path, text)).startswith(expected)


def test_a_missing_file_is_refused() -> None:
    """A settings file that was asked for must be there."""
    assert "--config: cannot read 'none.toml'" in refusal(file=Path("none.toml"))


def test_an_unknown_path_among_flags_is_refused() -> None:
    """Values that are given by path are as strict as the rest."""
    with pytest.raises(ConfigError, match=r"^server\.nothing: no such setting$"):
        load_settings({"server.nothing": "1"}, {})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1", "[::1]"])
def test_loopback_needs_no_permission(host: str) -> None:
    """A server that only this machine reaches starts without more words, and drains at once."""
    server = ServerSettings(host=host)
    assert server.loopback
    assert server.drain_delay == 0.0


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "127.0.0.1.example.org"])  # refused
def test_other_addresses_must_be_called_insecure(host: str) -> None:
    """Without TLS, an address that others reach has to be accepted explicitly."""
    assert "--insecure" in refusal(("--host", host))

    server = load_settings(parse("--host", host, "--insecure"), {}).server
    assert (host, 10.0) == (server.host, server.drain_delay)


TLS = ("--tls-certificate", "c", "--tls-key", "k")
PLAIN, NOBODY_ASKED = "connections are not encrypted", "nobody is asked who they are"


@pytest.mark.parametrize(
    ("flags", "missing"),
    [
        ((), {PLAIN, NOBODY_ASKED}),
        (TLS, {NOBODY_ASKED}),
        (("--tokens-file", "t"), {PLAIN}),
        ((*TLS, "--tokens-file", "t"), set()),
        ((*TLS, "--tls-client-ca", "a"), set()),
        (("--insecure",), set()),
    ],
)
@pytest.mark.parametrize(
    "address", [("--host", "10.0.0.1"), ("--admin-address", "10.0.0.1:8003")], ids=["main", "admin"]
)
def test_what_others_reach_takes_encryption_and_callers_who_are_known(
    address: tuple[str, ...], flags: tuple[str, ...], missing: set[str]
) -> None:
    """Either one alone is not enough; the text says what is missing, and of which address."""
    if not missing:
        assert load_settings(parse(*address, *flags), {}).server.reachable_address is not None
        return
    text = refusal((*address, *flags))
    assert f"server.{address[0][2:].replace('-', '_')}: '10.0.0.1' can be reached" in text
    assert missing == {part for part in (PLAIN, NOBODY_ASKED) if part in text}


@pytest.mark.parametrize(
    "address", ["unix:/run/a.sock", "127.0.0.1:0", "localhost:9000", "[::1]:1"]
)
def test_an_admin_address_that_only_this_machine_reaches_is_fine(address: str) -> None:
    """A socket has permissions, and a port on the loopback address is as the main one."""
    server = load_settings(parse("--admin-address", address), {}).server
    assert server.reachable_address is None
    assert (server.admin_socket is None) == (address != "unix:/run/a.sock")


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("unix:relative", "--admin-address: expected HOST:PORT, unix:/path, or nothing"),
        ("8003", "--admin-address: expected HOST:PORT, unix:/path, or nothing"),
        ("a b:1", "--admin-address: expected HOST:PORT, unix:/path, or nothing"),
        ("::1:80", "--admin-address: expected HOST:PORT, unix:/path, or nothing"),
        ("127.0.0.1:70000", "server.admin_address: expected a port up to 65535, got 70000"),
        ("127.0.0.1:8001", "server.admin_address: 127.0.0.1:8001 is where everything else is"),
    ],
)
def test_what_is_no_admin_address_is_refused(address: str, text: str) -> None:
    """Nor is the main one, where it would mean nothing."""
    assert refusal(("--admin-address", address)).startswith(text)


def test_tenants_that_are_callers_take_callers_who_are_known() -> None:
    """And then no metadata key, which would have no meaning."""
    flags = ("--tenant-from", "principal")

    assert "limits.tenant_from: callers have no names unless" in refusal(flags)
    text = refusal((*flags, "--tokens-file", "t", "--tenant-metadata-key", "x"))
    assert "limits.tenant_metadata_key: has no use beside --tenant-from principal" == text
    limits = load_settings(
        parse(*flags, "--tokens-file", "t", "--tenant-weights", "a=2"), {}
    ).limits
    assert (True, {"a": 2.0}) == (limits.tenants, limits.weights)


def test_a_burst_takes_a_rate_and_lets_one_through() -> None:
    """Without numbers there is no limit, and a burst is a second's worth."""
    access = load_settings(parse("--principal-rate", "50"), {}).access
    assert (50, 50) == (access.rate, access.burst)
    assert 1 == load_settings(parse("--principal-rate", "0.5"), {}).access.burst
    assert math.inf == load_settings({}, {}).access.burst
    assert "needs access.principal_rate" in refusal(("--principal-burst", "5"))
    flags = ("--principal-rate", "5", "--principal-burst", "0.5")
    assert "access.principal_burst: expected 1 or more, or 0" == refusal(flags)


def test_the_token_of_the_commands_is_no_setting() -> None:
    """A server may be started from a shell in which calls are made."""
    assert Settings() == load_settings({}, {"JITNEY_TOKEN": "jitney_x"})


def test_a_drain_delay_that_was_given_is_kept() -> None:
    """Only auto depends on the address."""
    flags = parse("--drain-delay-seconds", "2.5")
    assert load_settings(flags, {}).server.drain_delay == 2.5  # as given


def test_one_port_cannot_be_both() -> None:
    """The two services need two ports, unless both are free ones."""
    assert "both are 9000" in refusal(("--grpc-port", "9000", "--metrics-port", "9000"))
    assert load_settings(parse("--grpc-port=0", "--metrics-port=0"), {}).server.grpc_port == 0


def test_the_message_limit_follows_the_slot() -> None:
    """A message may be as large as a slot and some, never larger than protobuf reads."""
    slot_64 = load_settings({}, {})
    slot_4g = load_settings(parse("--slot-bytes", str(1 << 32)), {})
    given = load_settings(parse("--max-message-bytes", "1000"), {})

    assert ((64 << 20) + (1 << 20), (1 << 31) - 1, 1000) == (
        slot_64.max_message_bytes,
        slot_4g.max_message_bytes,
        given.max_message_bytes,
    )


def test_settings_are_frozen() -> None:
    """Nobody changes a setting while the server runs."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().server.grpc_port = 1  # type: ignore[misc]  # what is tested


def test_models_are_named_in_the_explicit_mode_only() -> None:
    """Elsewhere it would be ignored, and a typing mistake with it."""
    assert "--model-control-mode explicit" in refusal(("--load-model", "digits"))


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_address_of_ipv6_may_have_brackets(host: str) -> None:
    """Both spellings are the same address, and before a port it has them."""
    server = load_settings(parse("--host", host), {}).server
    assert ("::1", "[::1]", True) == (server.host, server.url_host, server.loopback)
