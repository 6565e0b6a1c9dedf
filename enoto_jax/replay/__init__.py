"""Replay: a ring buffer on the device, and the policies that mix it with the data set."""

from enoto_jax.replay.balanced import balanced as balanced
from enoto_jax.replay.chunks import Chunked as Chunked
from enoto_jax.replay.episodes import whole_episodes as whole_episodes
from enoto_jax.replay.mixing import Replay as Replay
from enoto_jax.replay.mixing import Stored as Stored
from enoto_jax.replay.mixing import append as append
from enoto_jax.replay.mixing import mixed as mixed
from enoto_jax.replay.mixing import online_only as online_only
