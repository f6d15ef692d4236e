"""The public names of Occopus. Everything else may change without notice."""
