"""The `occopus` command as a user without rights, also where the tests run as root: `python -m tests.e2e.as_nobody ARGUMENTS…`.

Everything is loaded before: such a user may not even read the interpreter's own files.
"""

from __future__ import annotations

import difflib
import os

import cel

from controller.cli import commands, inspect, main

LOADED = (cel, commands, difflib, inspect)

if __name__ == "__main__":
    if os.geteuid() == 0:
        os.seteuid(65534)
    main.main()
