"""The file of tokens: what it may say, how it is changed, and who it makes known."""

from __future__ import annotations

import asyncio
import math
import os
import stat
from typing import TYPE_CHECKING

import pytest
from tokens_file import make_token

from jitney.access import INFER, READ
from jitney.access.authority import Authority
from jitney.access.entries import Rate, parse_entries
from jitney.access.file_edits import read_entries, remove_tokens
from jitney.access.tokens import Hashed, id_of, looks_like_token, masked, new_token
from jitney.errors import ConfigError, Unauthenticated

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = (
    '[[token]]\nname = "a"\nid = "00112233445566aa"\nroles = ["infer"]\n'
    f'hash = "sha256:{"0" * 32}:{"0" * 64}"\n'
)


def refusal(text: str) -> str:
    """Return why a file is not taken."""
    with pytest.raises(ConfigError) as caught:
        parse_entries(text)
    return str(caught.value)


# -- tokens ---------------------------------------------------------------------------------------


def test_a_token_is_known_by_its_hash_and_by_nothing_less() -> None:
    """Neither another token nor another salt makes the same hash, and one has 256 random bits."""
    token, other = new_token(), new_token()
    hashed = Hashed.of(token)

    assert hashed.matches(token)
    assert not hashed.matches(other)
    assert not Hashed.of(token)._replace(salt=b"x" * 16).matches(token)
    assert Hashed.of(token) != hashed
    assert 43 == len(token.split("_", 2)[2])


def test_a_hash_is_read_from_its_text() -> None:
    """And from nothing that only looks like one."""
    hashed = Hashed.of(new_token())

    assert hashed == Hashed.read(str(hashed))
    assert [None] * 3 == [Hashed.read(t) for t in ("", "sha256:00:11", f"{hashed}0")]


def test_texts_are_shown_without_the_secrets_in_them() -> None:
    """Also where only a part of a token is there."""
    token = new_token()
    secret = token.split("_", 2)[2]
    text = f"cannot read '{token}' or {token[:40]}"

    assert looks_like_token(text)
    assert not looks_like_token("jitney_client is a package")
    assert secret[:8] not in masked(text)
    assert f"jitney_{id_of(token)}_***" in masked(text)


# -- what a file may say --------------------------------------------------------------------------


def test_everything_in_a_file_is_read() -> None:
    """Tokens, certificates, and what everybody may."""
    entries = parse_entries(
        TOKEN
        + "expires = 2030-01-31T12:00:00Z\nmodels = ['digits*']\nrate = 5\nburst = 20\n"
        + '[[certificate]]\nsan = "spiffe://x/web"\nname = "web"\nroles = ["infer", "read"]\n'
        + '[[certificate]]\ncn = "ops"\nroles = ["admin"]\n'
        + '[anonymous]\nroles = ["infer"]\nmodels = ["demo"]\nrate = 1\n'
    )

    (token,), (web, ops) = entries.tokens, entries.certificates
    assert ("a", 1896091200.0, Rate(5, 20)) == (token.name, token.expires, token.rate)
    assert ({"infer"}, ("digits*",)) == token.grant
    assert ("web", "spiffe://x/web", "") == (web.name, web.san, web.cn)
    assert {INFER, READ} == web.grant.roles
    assert ("ops", "ops", ("*",)) == (ops.name, ops.cn, ops.grant.models)
    assert entries.anonymous is not None
    assert (("demo",), Rate(1, 1)) == (entries.anonymous.models, entries.anonymous_rate)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[token]", "not TOML: Expected ']]' at the end of an array declaration (at line 1, col"),
        ("[tokens]", "tokens: expected [[token]], [[certificate]] or [anonymous]"),
        ("[token]\nname = 'a'", "token: write [[token]], with two brackets: there may be several"),
        ("token = [1]", "token 1: expected a table"),
        (TOKEN + "rol = 1", "token 1: rol: no such key; there are name, id, hash, created, expire"),
        (TOKEN.replace('"a"', '"a b"'), "token 1: name: expected letters, digits and _.@:/- (and"),
        (TOKEN.replace('"a"', '"unix"'), "token 1: name: expected letters, digits and _.@:/- (and"),
        (TOKEN.replace("66aa", "66AA"), "token 1 (a): id: expected 16 hexadecimal digits"),
        (TOKEN.replace("sha256", "md5"), "token 1 (a): hash: expected sha256:SALT:HASH, as jitney"),
        (TOKEN.replace('"infer"', '"root"'), "token 1 (a): roles: expected a list of some of infe"),
        (TOKEN.replace('["infer"]', "[]"), "token 1 (a): roles: expected a list of some of infer,"),
        (TOKEN + "models = []", "token 1 (a): models: expected a list of names of models, in whic"),
        (TOKEN + "models = ['a/b']", "token 1 (a): models: expected a list of names of models, in"),
        (TOKEN + "expires = 2030-01-01", "token 1 (a): expires: expected a moment such as 2030-01"),
        (TOKEN + "expires = 2030-01-01T00:00:00", "token 1 (a): expires: expected a moment such a"),
        (TOKEN + "rate = 0", "token 1 (a): rate: expected a number from 1e-06 to 1e+09"),
        (TOKEN + "rate = nan", "token 1 (a): rate: expected a number from 1e-06 to 1e+09"),
        (TOKEN + "rate = true", "token 1 (a): rate: expected a number from 1e-06 to 1e+09"),
        (TOKEN + "burst = 2", "token 1 (a): rate: expected a number beside burst"),
        (TOKEN + "rate = 1\nburst = 0.5", "token 1 (a): burst: expected a number from 1 to 1e+09"),
        (TOKEN + TOKEN, "token: the id 00112233445566aa is there more than once"),
        ("[[certificate]]\nroles = ['read']", "certificate 1: san, cn: expected one of them, a te"),
        (
            "[[certificate]]\nroles = ['read']\nsan = 'a'\ncn = 'b'",
            "certificate 1: san, cn: expected one of them, a text: a name that stands in the",
        ),
        ("[anonymous]\nname = 'a'", "anonymous: name: no such key; there are roles, models, rate,"),
    ],
)  # fmt: skip
def test_mistakes_are_told_by_entry_and_key(text: str, why: str) -> None:
    """A limit with a wrong name would be no limit, so what is not known is refused."""
    assert why == refusal(text)[: len(why)]


def test_what_is_wrong_with_a_hash_is_told_without_it() -> None:
    """Whoever pasted the token itself there shall not find it in a log."""
    token = new_token()

    text = refusal(TOKEN.replace("sha256:", f"{token}:"))
    assert token.split("_", 2)[2] not in text


# -- changing it ----------------------------------------------------------------------------------


def test_a_new_file_is_for_its_owner_only(tmp_path: Path) -> None:
    """Hashes are no secrets, but who stands in the file is nobody else's business."""
    file = tmp_path / "t.toml"

    token = make_token(file, "a", (INFER,), ("x*", "y"), expires=2e9, rate=Rate(2.5, 4))

    (entry,) = read_entries(file).tokens
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    assert ("a", id_of(token), 2e9, Rate(2.5, 4)) == (
        entry.name,
        entry.id,
        entry.expires,
        entry.rate,
    )
    assert (frozenset({INFER}), ("x*", "y")) == entry.grant
    assert token.split("_", 2)[2] not in file.read_text(encoding="utf-8")


def test_what_people_wrote_into_the_file_stays(tmp_path: Path) -> None:
    """Comments, order and mode; only the tokens that are revoked go, with their own comments."""
    file = tmp_path / "t.toml"
    first = make_token(file, "a")
    text = file.read_text(encoding="utf-8")
    file.write_text(
        text + "# of the operators\n[[certificate]]\ncn = 'ops'  # all of them\nroles = ['read']\n",
        encoding="utf-8",
    )
    file.chmod(0o640)
    second = make_token(file, "b")
    make_token(file, "a")

    removed = remove_tokens(file, lambda one: one.name == "a")

    left = file.read_text(encoding="utf-8")
    assert {id_of(first)} < {one.id for one in removed}
    assert [id_of(second)] == [one.id for one in read_entries(file).tokens]
    assert "# of the operators\n[[certificate]]\ncn = 'ops'  # all of them\n" in left
    assert left.startswith("# Who may call, and what.")
    assert 0o640 == stat.S_IMODE(file.stat().st_mode)
    assert [file] == list(tmp_path.iterdir())


def test_nothing_is_added_to_a_file_that_is_broken(tmp_path: Path) -> None:
    """It is left as it is, for whoever broke it."""
    file = tmp_path / "t.toml"
    file.write_text("[[token]]\n", encoding="utf-8")

    with pytest.raises(ConfigError, match="name: expected"):
        make_token(file, "a")
    assert "[[token]]\n" == file.read_text(encoding="utf-8")


def test_a_link_is_followed_and_not_replaced(tmp_path: Path) -> None:
    """Secrets that are mounted are links to where the real file is."""
    real, link = tmp_path / "real.toml", tmp_path / "link.toml"
    make_token(real, "a")
    link.symlink_to(real)

    make_token(link, "b")

    assert link.is_symlink()
    assert ["a", "b"] == [one.name for one in read_entries(real).tokens]


# -- whom it makes known --------------------------------------------------------------------------


def unauthenticated(authority: Authority, value: str) -> str:
    """Return why what was shown is no good."""
    with pytest.raises(Unauthenticated) as caught:
        authority.by_token(value)
    return str(caught.value)


def test_who_shows_a_token_is_known(tmp_path: Path) -> None:
    """However the scheme is written; and it is the same principal each time."""
    file = tmp_path / "t.toml"
    token = make_token(file, "web")
    authority = Authority(file)

    shown = [f"Bearer {token}", f"bearer  {token} ", f"BEARER {token}"]
    assert 1 == len({id(authority.by_token(value)) for value in shown})
    assert "web" == authority.by_token(shown[0]).name


def test_what_is_shown_is_whole_or_nothing(tmp_path: Path) -> None:
    """The id of a token finds its line, and only the whole of it is the token."""
    file = tmp_path / "t.toml"
    token = make_token(file, "web")
    authority = Authority(file)
    unknown = "the token is not one of this server's, or was revoked"

    wrong = token[:-1] + ("A" if token[-1] != "A" else "B")
    assert [unknown] * 5 == [
        unauthenticated(authority, f"Bearer {shown}")
        for shown in (wrong, token[:-1], f"{token}x", "", new_token())
    ]
    assert [unknown] == [unauthenticated(authority, "Bearer \udcff\n")]
    assert "authorization: expected 'Bearer' and a token" == unauthenticated(authority, token)
    assert 0 == len(authority._book.verified)


def test_a_token_ends_at_its_moment(tmp_path: Path) -> None:
    """By the wall clock, also when it was known already, and when the clock is set back."""
    file, now = tmp_path / "t.toml", [1000.0]
    token = make_token(file, "web", expires=2000.0)
    authority = Authority(file, wall=lambda: now[0])
    principal = authority.by_token(f"Bearer {token}")
    authority.ensure_current(principal)

    now[0] = 2000.0
    with pytest.raises(Unauthenticated):
        authority.ensure_current(principal)
    text = unauthenticated(authority, f"Bearer {token}")
    assert "the token of 'web' has expired; ask for a new one" == text
    now[0] = 1999.0
    assert principal is authority.by_token(f"Bearer {token}")


def test_alternative_names_come_before_common_names(tmp_path: Path) -> None:
    """Several entries for one name add up; who is in none is nobody in particular."""
    file = tmp_path / "t.toml"
    file.write_text(
        "[[certificate]]\nsan = 'web.x'\nroles = ['infer']\nmodels = ['a']\n"
        "[[certificate]]\nsan = 'web.x'\nroles = ['read']\n"
        "[[certificate]]\ncn = 'web.x'\nname = 'cn'\nroles = ['admin']\n",
        encoding="utf-8",
    )
    authority = Authority(file)

    web = authority.by_certificate(["10.0.0.1", "web.x"], ["web.x"])
    assert ("web.x", "certificate") == (web.name, web.source)
    assert (True, False, True) == (web.may(INFER, "a"), web.may(INFER, "b"), web.may(READ, "b"))
    assert "cn" == authority.by_certificate([], ["web.x"]).name
    assert authority.anonymous is authority.by_certificate(["other"], ["another"])


def test_figures_of_the_server_take_the_role_for_all_models(tmp_path: Path) -> None:
    """They are of all models at once, whoever shows what."""
    file = tmp_path / "t.toml"
    every, some = make_token(file, "every", (READ,)), make_token(file, "some", (READ,), ("a*",))
    text = file.read_text(encoding="utf-8")
    file.write_text(f"{text}[[certificate]]\ncn = 'scraper'\nroles = ['read']\n", encoding="utf-8")
    authority = Authority(file)

    assert (True, False, False, False) == tuple(
        authority.may_read_metrics(shown, ((), ()))
        for shown in (f"Bearer {every}", f"Bearer {some}", "Bearer x", "")
    )
    assert authority.may_read_metrics("", ((), ("scraper",)))
    assert not authority.may_read_metrics("", (("scraper",), ()))  # a name of the other kind
    assert not authority.may_read_metrics("Bearer x", ((), ("scraper",)))


def test_everybody_on_the_machine_may_not_write_the_file(tmp_path: Path) -> None:
    """They could give themselves any right."""
    file = tmp_path / "t.toml"
    make_token(file, "a")
    file.chmod(0o646)

    with pytest.raises(ConfigError, match=r"access.tokens_file: .*: everybody .* chmod o-w"):
        Authority(file)


def test_a_token_in_place_of_the_file_is_not_repeated(tmp_path: Path) -> None:
    """Somebody will do that, and the text goes to a log."""
    token = new_token()

    with pytest.raises(ConfigError) as caught:
        Authority(tmp_path / token)
    assert (
        "access.tokens_file: (a token, not a file): cannot be read: No such file or directory"
        == str(caught.value)
    )


# -- a file that changes --------------------------------------------------------------------------


def test_changes_take_effect_while_the_server_runs(tmp_path: Path) -> None:
    """New tokens are known, and what is gone is good no longer, not even on an open stream."""
    file, told = tmp_path / "t.toml", []
    old, kept = make_token(file, "old"), make_token(file, "kept", rate=Rate(1, 2))
    authority = Authority(file, told=lambda *args: told.append(args[0]))
    before = [authority.by_token(f"Bearer {token}") for token in (old, kept)]
    before[1].bucket.take(0.0)

    asyncio.run(authority.poll())
    new = make_token(file, "new")
    remove_tokens(file, lambda one: one.name == "old")
    asyncio.run(authority.poll())

    assert "new" == authority.by_token(f"Bearer {new}").name
    unauthenticated(authority, f"Bearer {old}")
    assert (True, False) == (before[0].revoked, before[1].revoked)
    with pytest.raises(Unauthenticated):
        authority.ensure_current(before[0])
    assert before[1] is authority.by_token(f"Bearer {kept}")  # with what is left of its rate
    assert (0.0, 1.0) == (before[1].bucket.take(0.0), before[1].bucket.take(0.0))
    assert ["loaded"] == told


def test_who_has_other_rights_than_before_is_somebody_else(tmp_path: Path) -> None:
    """What was let in with the old ones is not let through any more, and the rate goes on."""
    file = tmp_path / "t.toml"
    token = make_token(file, "a", (INFER,), rate=Rate(1, 1))
    authority = Authority(file)
    before = authority.by_token(f"Bearer {token}")
    before.bucket.take(5.0)

    text = file.read_text(encoding="utf-8").replace('["infer"]', '["read"]')
    file.write_text(text, encoding="utf-8")
    asyncio.run(authority.poll())

    after = authority.by_token(f"Bearer {token}")
    assert (True, False, True) == (before.revoked, after.may(INFER, "m"), after.may(READ, "m"))
    assert 1.0 == after.bucket.take(5.0)


def test_a_broken_file_changes_nothing_and_is_told_once(tmp_path: Path) -> None:
    """Everybody stays as they were, until it is whole again; also when it is gone altogether."""
    file, told = tmp_path / "t.toml", []
    token = make_token(file, "a")
    authority = Authority(file, told=lambda *args: told.append(args[0]))
    good = file.read_text(encoding="utf-8")

    for bad in ("[[token]]", "[[token]]", None):
        if bad is None:
            file.unlink()
        else:
            file.write_text(bad, encoding="utf-8")
        asyncio.run(authority.poll())
        asyncio.run(authority.poll())
        assert "a" == authority.by_token(f"Bearer {token}").name
    assert "cannot be read: No such file or directory" == authority.broken
    assert ["broken", "broken"] == told

    file.write_text(good, encoding="utf-8")
    asyncio.run(authority.poll())
    assert ("", ["broken", "broken", "loaded"]) == (authority.broken, told)
    assert "<Authority <Book 1 tokens, 0 certificates>>" == repr(authority)


def test_a_file_that_was_only_touched_is_not_news(tmp_path: Path) -> None:
    """Its content decides."""
    file, told = tmp_path / "t.toml", []
    make_token(file, "a")
    authority = Authority(file, told=lambda *args: told.append(args[0]))

    os.utime(file, (1, 1))
    asyncio.run(authority.poll())

    assert [] == told


def test_those_without_a_rate_have_that_of_the_settings(tmp_path: Path) -> None:
    """One for each name: two tokens of one name share it."""
    file = tmp_path / "t.toml"
    tokens = [make_token(file, name) for name in ("a", "a", "b")]
    authority = Authority(file, Rate(1, 1))

    first, second, third = (authority.by_token(f"Bearer {token}") for token in tokens)
    assert first.bucket is second.bucket
    assert first.bucket is not third.bucket
    assert (1, math.inf) == (first.bucket.rate, Authority(file).anonymous.bucket.rate)
