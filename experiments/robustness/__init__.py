"""Kills, hostile input, and lost hosts."""
