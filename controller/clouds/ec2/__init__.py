"""The `ec2` cloud: one AWS account in one region, by boto3. `driver` is where its calls begin."""

from controller.clouds.ec2.driver import PLUGIN, Ec2Driver, open

__all__ = ["PLUGIN", "Ec2Driver", "open"]
