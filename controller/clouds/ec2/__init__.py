"""The `ec2` cloud: one AWS account in one region, by boto3. `driver` is where its calls begin."""
