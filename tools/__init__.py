"""What builds, starts and checks this project; nothing of it is installed with the product."""
