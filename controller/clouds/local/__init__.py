"""The `local` cloud: machines are directories and processes on this computer. `driver` is where its calls begin."""

from controller.clouds.local.driver import PLUGIN, LocalCloud, LocalDriver, LocalMachine, open

__all__ = ["PLUGIN", "LocalCloud", "LocalDriver", "LocalMachine", "open"]
