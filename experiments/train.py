"""Run `enoto train` from a checkout."""

from enoto_jax.cli import train

if __name__ == "__main__":
    train.run_command()
