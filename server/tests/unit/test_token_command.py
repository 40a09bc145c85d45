"""``jitney token``, and the tokens that commands show."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
from test_cli import NOBODY

from jitney.access.authority import Authority
from jitney.access.file_edits import read_entries
from jitney.access.tokens import id_of, new_token
from jitney.cli import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return where the file of tokens is going to be."""
    return tmp_path / "tokens.toml"


def test_a_token_is_printed_once_and_good_from_then_on(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It alone is on stdout; what it is good for is told beside it."""
    argv = ["token", "create", "web", "--file", str(file), "--role", "infer", "--role", "read"]
    argv += ["--model", "digits*", "--rate", "5", "--expires", "never"]

    assert 0 == main(argv)

    token, errors = capsys.readouterr()
    principal = Authority(file).by_token(f"Bearer {token.strip()}")
    assert token.strip() not in errors
    assert "a token for 'web' (infer, read for digits*), for ever" in errors
    assert ("web", True, False) == (
        principal.name,
        principal.may("infer", "digits_2"),
        principal.may("infer", "minilm"),
    )
    assert (5, 5) == (principal.bucket.rate, principal.bucket.burst)


def test_a_token_can_go_into_a_file_instead(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """That only its owner may read, and that was not there before."""
    out = tmp_path / "web.token"
    argv = ["token", "create", "web", "--file", str(file), "--role", "infer", "--out", str(out)]

    assert (0, 2) == (main(argv), main(argv))

    printed, errors = capsys.readouterr()
    assert ("", True) == (printed, f"--out {out}: cannot be written: File exists" in errors)
    assert 0o600 == stat.S_IMODE(out.stat().st_mode)
    (entry,) = read_entries(file).tokens
    assert entry.id == id_of(out.read_text(encoding="ascii").strip())


def test_tokens_are_listed_and_revoked_by_name_or_id(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The list has all but the token itself."""
    for name, expires in (("web", "90d"), ("web", "never"), ("ops", "2099-12-31")):
        argv = ["token", "create", name, "--file", str(file), "--role", "read"]
        assert 0 == main([*argv, "--expires", expires])
    tokens = capsys.readouterr().out.split()
    ids = [id_of(token) or "" for token in tokens]

    assert 0 == main(["token", "list", "--file", str(file)])
    listed = capsys.readouterr().out
    assert "ops   " + ids[2] + "  read   *       -     until 2099-12-31 00:00 UTC" in listed
    assert not any(token.split("_", 2)[2] in listed for token in tokens)

    assert 0 == main(["token", "revoke", ids[1], "--file", str(file)])
    assert f"revoked {ids[1]} of 'web'\n" == capsys.readouterr().out
    assert 0 == main(["token", "revoke", "web", "--file", str(file)])
    assert [ids[2]] == [token.id for token in read_entries(file).tokens]
    assert 1 == main(["token", "revoke", "web", "--file", str(file)])
    assert "there is no token of that name or id" in capsys.readouterr().err


def test_what_could_not_be_kept_leaves_no_token_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would be good for nothing, and in the way of the next attempt."""
    out = tmp_path / "web.token"
    argv = ["token", "create", "web", "--role", "infer", "--out", str(out), "--file"]
    assert 2 == main([*argv, str(tmp_path / "missing" / "tokens.toml")])
    assert "cannot be written: No such file" in capsys.readouterr().err
    assert not out.exists()
    assert 0 == main([*argv, str(tmp_path / "tokens.toml")])


def test_a_name_may_look_like_an_id(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is revoked by its name all the same."""
    name = "0123456789abcdef"
    assert 0 == main(["token", "create", name, "--file", str(file), "--role", "read"])
    assert 0 == main(["token", "revoke", name, "--file", str(file)])
    assert f"of '{name}'" in capsys.readouterr().out
    assert () == read_entries(file).tokens


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["a", "--role", "read", "--expires", "0d"], "--expires: expected 90d, 12h, 30m, a day"),
        (["a b", "--role", "read"], "NAME: expected letters, digits and _.@:/-"),
        (["unix", "--role", "read"], "NAME: expected letters, digits and _.@:/-"),
        (["a", "--role", "root"], "argument --role: invalid choice: 'root'"),
        (["a"], "the following arguments are required: --role"),
        (["a", "--role", "read", "--model", "a/b"], "--model: expected the name of a model"),
        (["a", "--role", "read", "--expires", "soon"], "--expires: expected 90d, 12h, 30m, a day"),
        (["a", "--role", "read", "--expires", "2001-01-01"], "--expires: 2001-01-01 is over"),
        (["a", "--role", "read", "--burst", "5"], "--burst: needs --rate"),
        (["a", "--role", "read", "--rate", "0"], "--rate, --burst: expected a rate above 0"),
        (["a", "--role", "read", "--rate", "nan"], "--rate, --burst: expected a rate above 0"),
    ],
)
def test_what_cannot_be_made_is_refused(
    file: Path, capsys: pytest.CaptureFixture[str], flags: list[str], text: str
) -> None:
    """With what would be right, and without a file afterwards."""
    assert 2 == main(["token", "create", *flags, "--file", str(file)])
    assert text in capsys.readouterr().err
    assert not file.exists()


def test_the_file_can_be_that_of_the_environment(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable is the server's own; without any of them, none is made up."""
    monkeypatch.delenv("JITNEY_ACCESS_TOKENS_FILE", raising=False)
    assert 2 == main(["token", "create", "a", "--role", "read"])
    assert "--file: name the server's file of tokens" in capsys.readouterr().err

    monkeypatch.setenv("JITNEY_ACCESS_TOKENS_FILE", str(file))
    assert 0 == main(["token", "create", "a", "--role", "read"])
    assert ["a"] == [token.name for token in read_entries(file).tokens]


# -- showing one ----------------------------------------------------------------------------------


def refusal(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    """Return why a command does not even call."""
    assert 2 == main(["status", "--address", NOBODY, *flags])
    return capsys.readouterr().err


def test_no_mistake_with_a_token_shows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the command line, in place of a file, under another flag, or in a variable."""
    token = new_token()
    monkeypatch.delenv("JITNEY_TOKEN", raising=False)
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.write_text("\n", encoding="ascii")
    binary.write_bytes(b"\xff\xfe")
    texts = [
        refusal(capsys, "--token", token),
        refusal(capsys, f"--token={token}"),
        refusal(capsys, "--token-file", token),
        refusal(capsys, "sim", "--bearer", token),
        refusal(capsys, "--timeout", token),
        refusal(capsys, "--token-file", str(empty)),
        refusal(capsys, "--token-file", str(binary)),
    ]
    monkeypatch.setenv("JITNEY_TOKEN", f"{token} {token}")
    texts.append(refusal(capsys))
    monkeypatch.setenv("JITNEY_TOKEN", token)
    assert 2 == main(["status", "--address", "example.com:1"])
    texts.append(capsys.readouterr().err)

    assert not any(token.split("_", 2)[2] in text for text in texts)
    expected = (
        "--token: what stands on a command line, everybody on this machine can read",
        "--token: what stands on a command line, everybody on this machine can read",
        "--token-file: expected the name of a file that has the token, not the token",
        f"unrecognized arguments: --bearer jitney_{id_of(token)}_***",
        "argument --timeout: invalid float value",
        "--token-file: expected a token, one line without blanks",
        f"--token-file: {binary} holds no token",
        "JITNEY_TOKEN: expected a token, one line without blanks",
        "JITNEY_TOKEN: the token would travel to example.com:1 unencrypted",
    )
    assert [] == [(e, text) for e, text in zip(expected, texts, strict=True) if e not in text]


def test_help_has_no_token_of_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables are named there, not shown."""
    token = new_token()
    monkeypatch.setenv("JITNEY_TOKEN", token)
    for command in ("status", "infer", "bench", "serve", "token"):
        assert 0 == main([command, "--help"])
    assert token.split("_", 2)[2] not in capsys.readouterr().out
