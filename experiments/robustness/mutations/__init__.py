"""Mutations of valid input: of bytes, HDF5 files, npz archives, JSON trees and CSV files.

A mutation changes the file at a path in place, with random choices from a generator.
"""

from experiments.robustness.mutations.hdf5 import HDF5
from experiments.robustness.mutations.npz import NPZ, Evil
from experiments.robustness.mutations.raw import BYTES, TRILLION, Mutation, odd
from experiments.robustness.mutations.text import CSV, JSON, replaced

__all__ = ["BYTES", "CSV", "HDF5", "JSON", "NPZ", "TRILLION", "Evil", "Mutation", "odd", "replaced"]
