"""``python -m splic_ext.cli``: the same as ``splic-ext``."""

from splic_ext.cli import main

main()
