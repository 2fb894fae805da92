"""What every TOML table of a profile is, for the parser."""

from pydantic import BaseModel, ConfigDict


class Table(BaseModel):
    """A TOML table: no key that is not named here, no type that is not exact."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
