"""The code of Occopus. Users import the thin `occopus` package; nothing here is a public name by itself."""
