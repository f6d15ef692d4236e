"""The `occopus` command: the desktop, without any cluster. Commands parse, call `controller.desktop`, and print."""
