"""The directive `commands`: what `splic-ext COMMAND --help` says, as sections of a page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from splic_ext.cli.app import app as commands


def plain(text: str) -> str:
    """Return a text of Rich without its marks."""
    return re.sub(r"\\\[", "[", text)


class Commands(SphinxDirective):
    """A section for each command: usage, what it does, its options by panel."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        group: Any = typer.main.get_command(commands)
        return [self.section(name, group.commands[name]) for name in sorted(group.commands)]

    def section(self, name: str, command: Any) -> nodes.section:
        """Return the section of a command."""
        section = nodes.section(ids=[f"splic-ext-{name}"], names=[nodes.fully_normalize_name(name)])
        section += nodes.title("", "", nodes.Text(name))
        context = typer.Context(command, info_name=f"splic-ext {name}")
        usage = command.get_usage(context).removeprefix("Usage: ")
        section += nodes.literal_block(usage, usage, language="text")
        section += [nodes.paragraph("", plain(text)) for text in command.help.split("\n\n")]
        panels: dict[str, list[Any]] = {}
        for parameter in command.params:
            default = "Arguments" if parameter.param_type_name == "argument" else "Options"
            panels.setdefault(parameter.rich_help_panel or default, []).append(parameter)
        for title, parameters in panels.items():
            section += nodes.rubric("", title)
            section += nodes.definition_list(
                "", *self.items(name, parameters, context), classes=["flags"]
            )
        return section

    @staticmethod
    def items(
        name: str, parameters: list[Any], context: typer.Context
    ) -> Iterator[nodes.definition_list_item]:
        """Yield each parameter and what it means."""
        for parameter in parameters:
            record = parameter.get_help_record(context)
            if record is None:  # hidden
                continue
            flags = re.sub(r" <.*>$", "", record[0])
            term = nodes.term("", "", nodes.literal("", flags), ids=[f"{name}-{parameter.name}"])
            words = nodes.paragraph("", plain(record[1]))
            yield nodes.definition_list_item("", term, nodes.definition("", words))


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
