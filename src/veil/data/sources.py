"""Every source of images, by the name that a run's configuration gives it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from veil.data.celeba import CelebAConfig
from veil.data.synthfaces import SynthFacesConfig
from veil.data.table import TableConfig

DataConfig = Annotated[SynthFacesConfig | CelebAConfig | TableConfig, Field(discriminator="source")]
"""One source's settings; the field `source` says which."""

SOURCES: dict[str, type[SynthFacesConfig | CelebAConfig | TableConfig]] = {
    "synthfaces": SynthFacesConfig,
    "celeba": CelebAConfig,
    "table": TableConfig,
}
