"""Optional dashboards in addition to the CSV files: TensorBoard and Weights & Biases."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from enoto_jax.runs.files import plain, write_json
from enoto_jax.types import InputError, optional


class Sink(Protocol):
    """A dashboard in addition to the CSV files."""

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Log scalars named `<phase>/<unit>/<quantity>`; `step` counts within that phase."""

    def show(self, name: str, path: Path) -> None:
        """Show a picture (.png) or a film (.gif)."""

    def close(self) -> None:
        """Send what is left, and close the dashboard."""


class _TensorBoard:
    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        library = optional("tensorboardX", "tensorboard", "--log=tensorboard")
        self._writer = library.SummaryWriter(logdir=str(folder / "tensorboard"))
        self._writer.add_text("config", f"```\n{json.dumps(plain(config), indent=2)}\n```")

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, float(value), step)
        self._writer.flush()

    def show(self, name: str, path: Path) -> None:
        # Pass the file on unchanged: TensorBoard plays GIFs, and encoding needs another library.
        summary = importlib.import_module("tensorboardX.proto.summary_pb2").Summary
        with Image.open(path) as picture:
            size = {"width": picture.width, "height": picture.height, "colorspace": 3}
        image = summary.Image(encoded_image_string=path.read_bytes(), **size)
        value = summary.Value(tag=name, image=image)
        self._writer.file_writer.add_summary(summary(value=[value]))

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        library = optional("wandb", "wandb", "--log=wandb")
        known = folder / "wandb_id.json"  # a resumed run continues the same W&B run
        try:
            self._run = library.init(
                project="enoto_jax",
                name=folder.name,
                dir=str(folder),
                config=plain(config),
                id=json.loads(known.read_text()) if known.exists() else None,
                resume="allow",
            )
        except library.Error as error:  # usually because nobody is logged in
            reason = " ".join(str(error).split())
            raise InputError(f"--log=wandb: {reason}; or set WANDB_MODE=offline") from None
        write_json(known, self._run.id)
        # W&B's own step cannot decrease, but each phase counts from 0, so ours is the x axis.
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        self._run.log({name: float(value) for name, value in values.items()} | {"step": step})

    def show(self, name: str, path: Path) -> None:
        library = importlib.import_module("wandb")
        film = path.suffix == ".gif"
        shown = library.Video(str(path), format="gif") if film else library.Image(str(path))
        self._run.log({name: shown})

    def close(self) -> None:
        self._run.finish()


_SINKS: dict[str, Callable[[Path, Any], Sink]] = {"tensorboard": _TensorBoard, "wandb": _Wandb}


def check(names: Iterable[str]) -> list[str]:
    """Return the dashboards among the names, without duplicates.

    Raises:
      InputError: A name is unknown.
    """
    wanted = [name for name in dict.fromkeys(names) if name != "csv"]
    for name in wanted:
        if name not in _SINKS:
            raise InputError(f"--log={name}: unknown; choose from csv, {', '.join(_SINKS)}")
    return wanted


def sinks(
    names: Iterable[str], folder: str | os.PathLike, config: Mapping[str, Any]
) -> tuple[Sink, ...]:
    """Open dashboards. Their packages are imported here and nowhere else.

    Args:
      names: Any of "tensorboard" and "wandb"; "csv" is always written and opens nothing here.
      folder: The run's folder.
      config: The run's config, shown with the curves.

    Raises:
      InputError: A name is unknown, or a package is not installed.
    """
    wanted = check(names)
    return tuple(_SINKS[name](Path(folder), config) for name in wanted)
