"""Tools that all rooms share: checks of values, absent packages, outside code, files, notebooks.

Here are the checks; the others are imported from their modules.
"""

from splic_ext.common.checks import (
    Channels,
    check_bool,
    check_fields,
    check_integer,
    check_labels,
    check_mapping,
    check_number,
    out_of_range,
    printable,
    shortened,
    told_apart,
)

__all__ = [
    "Channels",
    "check_bool",
    "check_fields",
    "check_integer",
    "check_labels",
    "check_mapping",
    "check_number",
    "out_of_range",
    "printable",
    "shortened",
    "told_apart",
]
