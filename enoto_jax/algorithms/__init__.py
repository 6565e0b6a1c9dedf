"""Algorithms: one small file each, made of shared losses, backups and critic terms."""
