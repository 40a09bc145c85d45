"""Write ``docs/settings.md`` from the tree of settings, so that there is one list of them.

Run ``python docs/generate_settings.py``; with ``--check`` nothing is written, and the exit code is
1 when what is committed differs.
"""

# ruff: noqa: INP001, T201  # a script, not a package, and it talks to whoever runs it

from __future__ import annotations

import argparse
import inspect
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jitney.config import Settings
from jitney.config.key import AUTO, KEYS, SECTIONS, Key

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET: Final = Path(__file__).with_name("settings.md")
MIB: Final = 1 << 20
GIB: Final = 1 << 30

INTRODUCTION: Final = """\
# Settings

<!-- Written by docs/generate_settings.py from jitney/config; do not edit. -->

Every setting of `jitney serve` has three names: a flag, an environment variable, and a key of the
settings file (TOML, one table per section, given with `--config FILE`). Where several of them are
present, the flag beats the variable, the variable beats the file, and the file beats the default:

```
jitney serve --grpc-port 9001
JITNEY_SERVER_GRPC_PORT=9001 jitney serve
jitney serve --config jitney.toml
```

with `jitney.toml` being

```toml
[server]
grpc_port = 9001
```

- Unknown names and wrong values are refused at the start, with the name as you wrote it (exit
  code 2). This includes unknown variables that begin with `JITNEY_`, but not those that Kubernetes
  makes for a Service called `jitney`.
- Values are checked even where a stronger source overrides them.
- A flag that is true or false may be given alone (`--exit-on-error`) or with a value
  (`--reflection=false`). Variables take `true`, `false`, `1`, `0`, `yes`, `no`, `on`, `off`.
- `--model-repository` may be repeated. In its variable, folders are separated by `:`, in the file
  they are a list. Folders and files in a settings file are relative to that file.
- What a model says in its own [`model.toml`](models.md#modeltoml) beats the section `batching`.
"""


def render() -> str:
    """Return the whole page."""
    return "\n".join([INTRODUCTION, *_sections()])


def _sections() -> Iterator[str]:
    for section in SECTIONS:
        about = inspect.getdoc(type(getattr(Settings(), section))) or ""
        yield f"## {section}\n"
        yield f"{about.splitlines()[0]}\n"
        yield "| flag, variable, key in the file | default | takes | meaning |"
        yield "|---|---|---|---|"
        yield from (_row(key) for key in KEYS if key.section == section)
        yield ""


def _row(key: Key) -> str:
    cells = (
        # One column for the three names: as three they leave no room for the meaning.
        f"`{key.flag}`<br>`{key.variable}`<br>`{key.path}`",
        _default(key),
        key.expected,
        key.setting.help,
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _default(key: Key) -> str:
    value = key.default
    if value is None:
        return f"`{AUTO}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{os.pathsep.join(map(str, value))}`"
    if key.field.endswith("_bytes"):
        for unit, name in ((GIB, "GiB"), (MIB, "MiB")):
            if value and value % unit == 0:
                return f"`{value}` ({value // unit} {name})"
    return f"`{value}`"


def main() -> int:
    """Write the page, or compare it; return the exit code."""
    parser = argparse.ArgumentParser(description="Write docs/settings.md.")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    page = render()
    if TARGET.exists() and TARGET.read_text(encoding="utf-8") == page:
        return 0
    if check:
        print(f"{TARGET.name} is out of date: run `python docs/generate_settings.py`")
        return 1
    TARGET.write_text(page, encoding="utf-8")
    print(f"wrote {TARGET.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
