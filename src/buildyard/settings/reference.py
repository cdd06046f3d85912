"""The reference page of all settings."""

from dataclasses import MISSING, Field
from typing import Any, get_type_hints

from buildyard.settings.model import GIB, KIB, MIB, Secret, Settings
from buildyard.settings.reading import CONFIG_FILE, CONFIG_VARIABLE, kind_text, setting_keys


def settings_reference() -> str:
    """The reference of all settings, as Markdown."""
    lines = [
        "# Settings",
        "",
        "<!-- generated from src/buildyard/settings by tools/generate_docs.py -->",
        "",
        "Settings are read once, at start, from one TOML file and from variables of the environment; a variable wins.",
        f"The file is the one that `{CONFIG_VARIABLE}` names, else `{CONFIG_FILE}` in the data folder if it is there.",
        "An unknown key of the file is an error that names file, line and key; an unknown `BUILDYARD_*` variable is a",
        "warning. Truth values are `1`, `0`, `true`, `false`, `on`, `off`; lists in variables are separated by commas;",
        "sizes may be written `512KiB`, `32MiB`, `4GiB`.",
    ]
    section = None
    for key, (setting, kind) in setting_keys().items():
        table = key.rpartition(".")[0]
        if table != section:
            section = table
            lines += [
                "",
                *_section_head(table),
                "| key | variable | type | default | meaning |",
                "|---|---|---|---|---|",
            ]
        name = key.rpartition(".")[2]
        meaning = setting.metadata["doc"].replace("|", "\\|")
        variable = setting.metadata["variable"]
        lines.append(f"| `{name}` | `{variable}` | {kind_text(kind)} | {_default_text(setting)} | {meaning} |")
    return "\n".join(lines) + "\n"


def _section_head(table: str) -> list[str]:
    if not table:
        return ["## At the top of the file", ""]
    owner = get_type_hints(Settings)[table]
    return [f"## `[{table}]`", "", str(owner.__doc__).splitlines()[0], ""]


def _default_text(setting: Field[Any]) -> str:
    if setting.metadata["shown"]:
        return str(setting.metadata["shown"])
    default = setting.default
    if default is MISSING or default in ("", ()) or (isinstance(default, Secret) and not default):
        return "–"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, tuple):
        return ", ".join(f"`{item}`" for item in default)
    if isinstance(default, int) and default >= KIB and default % KIB == 0:
        unit, size = _largest_unit(default)
        return f"`{default // size}{unit}`"
    return f"`{default}`"


def _largest_unit(size: int) -> tuple[str, int]:
    return next((unit, factor) for unit, factor in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)) if size % factor == 0)
