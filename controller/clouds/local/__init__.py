"""The `local` cloud: machines are directories and processes on this computer. `driver` is where its calls begin.

Nothing is imported here: the guardian of each machine would pay for it.
"""
