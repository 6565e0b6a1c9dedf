"""Offline-to-online reinforcement learning with Q-ensembles, in JAX and Flax."""

from enoto_jax.data.source import Source as Source
from enoto_jax.data.source import concatenate as concatenate
from enoto_jax.data.source import from_arrays as from_arrays
from enoto_jax.data.source import from_env as from_env
from enoto_jax.data.source import load_source as load_source
from enoto_jax.deploy.agent import Agent as Agent
from enoto_jax.recipes.recipe import Phase as Phase
from enoto_jax.recipes.recipe import Recipe as Recipe
from enoto_jax.recipes.recipe import build as build
from enoto_jax.recipes.registry import override as override
from enoto_jax.recipes.table import RECIPES as RECIPES
from enoto_jax.recipes.table import recipe as recipe
from enoto_jax.recipes.units import Unit as Unit
from enoto_jax.recipes.units import unit as unit
from enoto_jax.training.record import Stopped as Stopped
from enoto_jax.training.run import train as train
from enoto_jax.types import InputError as InputError
from enoto_jax.types import Spec as Spec
from enoto_jax.types import Transition as Transition

__version__ = "0.1.0"
